"""Start fine-tuning from a linear probe on the layer that tells genres apart best.

A random head sends noise through the pretrained layers in the first steps of training and spoils
what they know. So the head starts as the logistic regression on the pretrained features: "linear
probing, then fine-tuning" (Kumar et al., "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", ICLR 2022). The last layers of a speech model know words rather
than music: those behind the best layer are cut off. Layer and regularization are chosen together
by cross-validation over the artists of train.

Where clips are few, fine-tuning does not always improve on the probe. So training falls back to it
if no epoch was better on validation.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import PreTrainedModel

from music_genre import windows
from music_genre.errors import InputError
from music_genre.evaluation.metrics import negative_log_likelihood
from music_genre.training.checkpoints import LINEAR_PROBE, load_weights
from music_genre.training.trainer import ClipDataset, ClipTrainer, validation_metrics

METRICS_FILE = "metrics.json"
MAX_WINDOWS = 6  # of a clip, spread over it: more of one track teach a linear probe little
BATCH_SIZE = 16  # windows
N_FOLDS = 5
# Of the logistic regression on standardized features, where a clip weighs 1 on average.
STRENGTHS = (0.001, 0.01, 0.1)


@dataclass
class Features:
    """The hidden states of windows, averaged over time, and where the windows are from."""

    layers: list[np.ndarray]  # of each layer, shape (windows, hidden)
    clips: np.ndarray  # int, shape (windows,): the clip's index, rising
    labels: np.ndarray  # int, shape (windows,)
    groups: np.ndarray  # str, shape (windows,): the artist, or the clip where that is unknown

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """For the regression: windows of a clip share its weight, clips of a genre the genre's."""
        of_clip = 1 / np.bincount(self.clips)[self.clips]
        clips_of_genre = np.bincount(self.labels, of_clip)
        mean = clips_of_genre[clips_of_genre > 0].mean()
        return {"logisticregression__sample_weight": of_clip * mean / clips_of_genre[self.labels]}


def has_linear_head(model: PreTrainedModel) -> bool:
    """HuBERT, wav2vec2, WavLM and Whisper: a projector, the mean over time, a classifier."""
    has_head = hasattr(model, "projector") and hasattr(model, "classifier")
    return has_head and hasattr(getattr(model.base_model, "encoder", None), "layers")


def keep_layers(model: PreTrainedModel, n: int) -> None:
    """Cut off the transformer layers behind the first `n`, in the net and in its configuration."""
    del model.base_model.encoder.layers[n:]
    model.config.num_hidden_layers = n


def fit_linear_probe(trainer: ClipTrainer, clips: ClipDataset) -> dict[str, Any]:
    """Cut the model behind its best layer and set its head, both by the clips to train on.

    Processes share the forward passes; the first one chooses and fits for all.

    Returns:
        `layers` that are kept, `of_layers`, the regression's `C`, and `cross_validated_accuracy`.
    """
    model, is_main = trainer.model.eval(), trainer.accelerator.is_main_process
    features = _hidden_states(trainer, clips)
    (choice,) = broadcast_object_list([choose_layer(features) if is_main else None])
    keep_layers(model, choice["layers"])
    # Once more, since some models have a norm between their last layer and the head.
    features = _projector_input(trainer, clips)
    (pipeline,) = broadcast_object_list([_fit(features, choice["C"]) if is_main else None])
    _set_head(model, pipeline)
    return choice


def choose_layer(features: Features) -> dict[str, Any]:
    """The layer and the C of the least negative log-likelihood on clips of unknown artists."""
    first = np.unique(features.clips, return_index=True)[1]
    references = np.searchsorted(np.unique(features.labels), features.labels[first])
    choices = []
    for (i, layer), strength in product(enumerate(features.layers), STRENGTHS):
        probabilities = cross_validate(layer, features, strength)
        loss = negative_log_likelihood(probabilities, references)
        accuracy = float((probabilities.argmax(-1) == references).mean())
        choices.append((loss, i + 1, strength, accuracy))
    _, n_layers, strength, accuracy = min(choices)
    return {
        "layers": n_layers,
        "of_layers": len(features.layers),
        "C": strength,
        "cross_validated_accuracy": accuracy,
    }


def cross_validate(layer: np.ndarray, features: Features, strength: float) -> np.ndarray:
    """Probabilities of clips whose artist the regression was not fitted on.

    Returns:
        Shape (clips, genres that occur).

    Raises:
        InputError: there are too few clips, or artists, to leave some out.
    """
    n_of_genre = np.bincount(features.labels)
    # As many as scikit-learn allows.
    n_folds = min(N_FOLDS, n_of_genre.max(), len(set(features.groups)))
    if n_folds < 2 or np.count_nonzero(n_of_genre) < 2:
        raise InputError(
            "The linear probe needs two genres, and two clips by different artists, in train: add "
            "clips, or leave it out by --linear_probe False."
        )
    with warnings.catch_warnings():
        # Few artists: a fold may lack a genre, whose probability is then 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        probabilities = cross_val_predict(
            _regression(strength),
            layer,
            features.labels,
            groups=features.groups,
            cv=StratifiedGroupKFold(n_folds, shuffle=True, random_state=0),
            method="predict_proba",
            params=features.weights,
        )
    first = np.unique(features.clips, return_index=True)[1]
    return np.add.reduceat(probabilities, first) / np.bincount(features.clips)[:, None]


def save_linear_probe(trainer: ClipTrainer, clips: ClipDataset, choice: dict[str, Any]) -> None:
    """Put the model as it is before fine-tuning aside, with its metrics on validation."""
    folder = Path(trainer.args.output_dir, LINEAR_PROBE)
    metrics = validation_metrics(*trainer.score(clips))
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if trainer.is_world_process_zero():
        model.save_pretrained(folder)
        (folder / METRICS_FILE).write_text(json.dumps(metrics | choice), encoding="utf-8")


def load_linear_probe_if_better(trainer: ClipTrainer) -> dict[str, Any] | None:
    """After training: fall back to the linear probe if no epoch was better on validation.

    Better is what the run chose its epochs by, `metric_for_best_model`. Without a best epoch the
    fine-tuned model is kept.

    Returns:
        What `save_linear_probe` wrote, and `is_kept`; None if that is not there.
    """
    folder = Path(trainer.args.output_dir, LINEAR_PROBE)
    best, reason, metrics = trainer.state.best_metric, None, None
    if not (folder / METRICS_FILE).is_file():
        reason = f"{folder} is not there"
    else:
        metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
        if not trainer.args.load_best_model_at_end:
            reason = "--load_best_model_at_end is False"
        elif best is None:
            reason = "no step was validated"
    if reason:
        if trainer.is_world_process_zero():
            print(
                f"The fine-tuned model of step {trainer.state.global_step} is kept and not "
                f"compared with the linear probe: {reason}."
            )
        return metrics and metrics | {"is_kept": False}
    own = metrics[trainer.args.metric_for_best_model.removeprefix("eval_")]
    is_kept = own > best if trainer.args.greater_is_better else own < best
    if is_kept:
        load_weights(trainer.accelerator.unwrap_model(trainer.model), folder)
        trainer.state.best_global_step = 0
    return metrics | {"is_kept": is_kept}


def _hidden_states(trainer: ClipTrainer, clips: ClipDataset) -> Features:
    """Of every transformer layer."""

    def forward(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        # The first one is the input of the first layer.
        return trainer.model(**inputs, output_hidden_states=True).hidden_states[1:]

    return _extract(trainer, clips, forward)


def _projector_input(trainer: ClipTrainer, clips: ClipDataset) -> Features:
    """Of the last layer, as the head gets it: some models have a norm between the two."""
    seen: list[torch.Tensor] = []

    def forward(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        trainer.model(**inputs)
        return [seen.pop()]

    hook = trainer.model.projector.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    try:
        return _extract(trainer, clips, forward)
    finally:
        hook.remove()


def _extract(
    trainer: ClipTrainer,
    clips: ClipDataset,
    forward: Callable[[dict[str, torch.Tensor]], list[torch.Tensor]],
) -> Features:
    """Features of all clips, in every process; each computes its share."""
    parts: list[tuple[int, int, list[np.ndarray]]] = []  # of a window: clip, label, layers
    batch: list[tuple[int, int, np.ndarray]] = []

    def flush() -> None:
        cuts = windows.extract_features(trainer.processing_class, [cut for *_, cut in batch])
        inputs = trainer._prepare_inputs({trainer.model.main_input_name: cuts})
        with torch.no_grad(), trainer.accelerator.autocast():
            layers = [states.float().mean(1).cpu().numpy() for states in forward(inputs)]
        for (clip, label, _), *of_window in zip(batch, *layers, strict=True):
            parts.append((clip, label, of_window))
        batch.clear()

    with trainer.accelerator.split_between_processes(list(range(len(clips)))) as share:
        for clip in share:
            item = clips[clip]
            chosen = np.linspace(0, len(item["windows"]) - 1, MAX_WINDOWS).round().astype(int)
            batch += [(clip, item["label"], item["windows"][j]) for j in np.unique(chosen)]
            if len(batch) >= BATCH_SIZE:
                flush()
        if batch:
            flush()
    parts = gather_object(parts)
    of_clip, labels, layers = zip(*parts, strict=True)
    has_artists = "artist" in clips.clips.column_names
    names = clips.of_tracks("artist") if has_artists else [""] * len(clips)
    groups = np.array([names[i] or f"clip {i}" for i in of_clip])
    stacked = [np.stack(layer) for layer in zip(*layers, strict=True)]
    return Features(stacked, np.array(of_clip), np.array(labels), groups)


def _fit(features: Features, strength: float) -> Pipeline:
    return _regression(strength).fit(features.layers[0], features.labels, **features.weights)


def _regression(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _set_head(model: PreTrainedModel, pipeline: Pipeline) -> None:
    """Write scaler and regression into projector and classifier, which are linear together.

    The projector standardizes and rotates. Its first outputs carry the regression: all of it, or
    the best approximation of their number. The others are random, for fine-tuning to use.
    """
    scaler, regression = pipeline[0], pipeline[-1]
    n_labels, n_outputs = model.config.num_labels, model.projector.out_features
    n_inputs = len(scaler.mean_)
    weight = np.zeros((n_labels, n_inputs))
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn keeps the log-odds of the second one only
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    bias = np.full(n_labels, intercepts.min() - 5.0)  # a genre that train does not have
    weight[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    random = np.random.default_rng(0).standard_normal((n_inputs, max(n_inputs, n_outputs)))
    principal = np.linalg.svd(weight, full_matrices=False)[2].T
    n_orthogonal = min(n_inputs, n_outputs)
    directions = np.linalg.qr(np.hstack([principal, random])[:, :n_orthogonal])[0]
    left = random[:, : n_outputs - n_orthogonal]  # more outputs than inputs
    projection = np.hstack([directions, left / np.sqrt(n_inputs)]).T
    classifier = np.hstack([weight @ directions, np.zeros((n_labels, left.shape[1]))])
    for layer, values, offset in (
        (model.projector, projection / scaler.scale_, -projection @ (scaler.mean_ / scaler.scale_)),
        (model.classifier, classifier, bias),
    ):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(values))
            layer.bias.copy_(torch.from_numpy(offset))
