"""Fit the new head before anything else moves, and find the layer that knows most about music.

A random head sends noise through the pretrained layers in the first steps of training and spoils
what they know. So the head starts as the logistic regression on the pretrained features: "linear
probing, then fine-tuning" (Kumar et al., "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", ICLR 2022). The last layers of a speech model know words rather
than music: those behind the layer whose features tell genres apart best are cut off.

Where clips are few, fine-tuning does not always improve on this. So the head alone stands for
election on validation like any epoch.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from music_genre import windows
from music_genre.evaluation.metrics import negative_log_likelihood
from music_genre.training.checkpoints import load_weights
from music_genre.training.trainer import validation_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from sklearn.pipeline import Pipeline
    from transformers import PreTrainedModel

    from music_genre.training.trainer import ClipDataset, ClipTrainer

LINEAR_PROBE = "linear_probe"  # folder in that of the run
METRICS_FILE = "validation.json"
MAX_WINDOWS = 6  # of a clip, spread over it: more of one track teach a linear head little
BATCH_SIZE = 16  # windows
N_FOLDS = 5
C = 0.1  # of the logistic regression on standardised features, where a clip weighs 1 on average


@dataclass
class Features:
    """What the layers make of windows, averaged over time, and where the windows are from."""

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


def has_linear_head(model: "PreTrainedModel") -> bool:
    """HuBERT, wav2vec2, WavLM and Whisper: a projector, the mean over time, a classifier."""
    return hasattr(model, "projector") and hasattr(model, "classifier")


def fit_linear_probe(trainer: "ClipTrainer", clips: "ClipDataset") -> dict[str, float]:
    """Cut the model behind its best layer and set its head, both by the clips to train on.

    Returns:
        `layers` that are kept, `of_layers`, and `accuracy`, cross-validated over artists.
    """
    model = trainer.model.eval()
    features = _all_layers(trainer, clips)
    scores = [_cross_validate(layer, features) for layer in features.layers]
    best = min(range(len(scores)), key=lambda i: scores[i][0])
    keep_layers(model, best + 1)
    # Once more, since some models have a norm between their last layer and the head.
    features = _projector_input(trainer, clips)
    _set_head(model, _regression().fit(features.layers[0], features.labels, **features.weights))
    return {"layers": best + 1, "of_layers": len(scores), "accuracy": scores[best][1]}


def save_linear_probe(trainer: "ClipTrainer", clips: "ClipDataset") -> None:
    """Put the model as it is before fine-tuning aside, with its metrics on validation."""
    folder = Path(trainer.args.output_dir, LINEAR_PROBE)
    metrics = validation_metrics(*trainer.score(clips))
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if trainer.is_world_process_zero():
        model.save_pretrained(folder)
        (folder / METRICS_FILE).write_text(json.dumps(metrics))


def load_linear_probe_if_better(trainer: "ClipTrainer") -> dict[str, float]:
    """After training: go back to the head alone if no epoch was better on validation.

    Better is what the run chose its epochs by, `metric_for_best_model`.

    Returns:
        Its metrics on validation and `is_kept`.
    """
    folder = Path(trainer.args.output_dir, LINEAR_PROBE)
    metrics = json.loads((folder / METRICS_FILE).read_text())
    best = trainer.state.best_metric
    own = metrics[trainer.args.metric_for_best_model.removeprefix("eval_")]
    is_kept = best is None or (own > best if trainer.args.greater_is_better else own < best)
    if is_kept:
        model = trainer.accelerator.unwrap_model(trainer.model)
        load_weights(model, folder)
        trainer.state.best_global_step = 0
    return metrics | {"is_kept": is_kept}


def keep_layers(model: "PreTrainedModel", n: int) -> None:
    """Cut off the transformer layers behind the first `n`, in the net and in its configuration."""
    layers = next(
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList)
        and len(module) == model.config.num_hidden_layers
        and "Layer" in type(module[0]).__name__
    )
    del layers[n:]
    model.config.num_hidden_layers = n


def _all_layers(trainer: "ClipTrainer", clips: "ClipDataset") -> Features:
    def read(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return trainer.model(**inputs, output_hidden_states=True).hidden_states[1:]

    return _read(trainer, clips, read)


def _projector_input(trainer: "ClipTrainer", clips: "ClipDataset") -> Features:
    """Of the last layer, as the head gets it: some models have a norm between the two."""
    seen: list[torch.Tensor] = []

    def read(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        trainer.model(**inputs)
        return [seen.pop()]

    hook = trainer.model.projector.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    try:
        return _read(trainer, clips, read)
    finally:
        hook.remove()


def _read(
    trainer: "ClipTrainer",
    clips: "ClipDataset",
    read: "Callable[[dict[str, torch.Tensor]], list[torch.Tensor]]",
) -> Features:
    cuts, of_clip, labels = [], [], []
    batches: list[list[np.ndarray]] = []

    def flush() -> None:
        features = windows.extract_features(trainer.processing_class, cuts)
        inputs = trainer._prepare_inputs({trainer.model.main_input_name: features})
        with torch.no_grad(), trainer.accelerator.autocast():
            batches.append([h.float().mean(1).cpu().numpy() for h in read(inputs)])
        cuts.clear()

    for i in range(len(clips)):
        item = clips[i]
        chosen = np.linspace(0, len(item["windows"]) - 1, MAX_WINDOWS).round().astype(int)
        for j in np.unique(chosen):
            cuts.append(item["windows"][j])
            of_clip.append(i)
            labels.append(item["label"])
            if len(cuts) == BATCH_SIZE:
                flush()
    if cuts:
        flush()
    layers = [np.concatenate(layer) for layer in zip(*batches, strict=True)]
    names = clips.clips["artist"] if "artist" in clips.clips.column_names else [""] * len(clips)
    groups = np.array([names[i] or f"clip {i}" for i in of_clip])
    return Features(layers, np.array(of_clip), np.array(labels), groups)


def _regression() -> "Pipeline":
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def _cross_validate(layer: np.ndarray, features: Features) -> tuple[float, float]:
    """Negative log-likelihood and accuracy of clips whose artist the regression has not met."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    with warnings.catch_warnings():
        # Few artists: a fold may lack a genre, which is then answered with probability 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        probabilities = cross_val_predict(
            _regression(),
            layer,
            features.labels,
            groups=features.groups,
            cv=StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0),
            method="predict_proba",
            params=features.weights,
        )
    first = np.unique(features.clips, return_index=True)[1]
    means = np.add.reduceat(probabilities, first) / np.bincount(features.clips)[:, None]
    classes = np.unique(features.labels)
    references = np.searchsorted(classes, features.labels[first])
    accuracy = float((means.argmax(-1) == references).mean())
    return negative_log_likelihood(means, references), accuracy


def _set_head(model: "PreTrainedModel", pipeline: "Pipeline") -> None:
    """Write scaler and regression into projector and classifier, which are linear together.

    The projector standardises, then turns into directions of which the first ones carry the
    regression and the others, for fine-tuning, are random.
    """
    scaler, regression = pipeline[0], pipeline[-1]
    n_labels, width = model.config.num_labels, model.projector.out_features
    weight = np.zeros((n_labels, len(scaler.mean_)))
    bias = np.full(n_labels, regression.intercept_.min() - 5.0)  # a genre that train does not have
    weight[regression.classes_], bias[regression.classes_] = regression.coef_, regression.intercept_
    others = np.random.default_rng(0).standard_normal((len(scaler.mean_), width))
    directions = np.linalg.qr(np.hstack([weight.T, others])[:, :width])[0].T
    for layer, values in (
        (
            model.projector,
            (directions / scaler.scale_, -directions @ (scaler.mean_ / scaler.scale_)),
        ),
        (model.classifier, (weight @ directions.T, bias)),
    ):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(values[0]))
            layer.bias.copy_(torch.from_numpy(values[1]))
