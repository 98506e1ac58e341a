"""A linear probe: the model with its encoder frozen, cut behind the layer that knows genres best.

It is a model of its own, minutes after the start, and what fine-tuning starts from. A random head
sends noise through the pretrained layers in the first steps of training and spoils what they know.
So the head starts as the logistic regression on the pretrained features: "linear probing, then
fine-tuning" (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022). The last layers of a speech model know words rather than music:
those behind the best layer are cut off. Layer and regularization are chosen together by
cross-validation over the artists of train.
"""

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from music_genre import windows
from music_genre.errors import InputError
from music_genre.evaluation.intervals import artist_groups
from music_genre.evaluation.metrics import accuracy, negative_log_likelihood
from music_genre.training.clips import ClipDataset, CropDataset
from music_genre.training.model import AST
from music_genre.training.trainer import ClipTrainer

# Of a clip: windows spread over it, and as many random crops as make up the total, where the run
# augments crops. More of one track teach a linear probe little.
N_WINDOWS, N_WITH_CROPS = 4, 8
BATCH_SIZE = 16  # windows
N_FOLDS = 5
WITH_PROJECTOR = ("hubert", "wav2vec2", "wavlm", "whisper")
# C of the logistic regression on standardized features, where a clip weighs 1 on average. The layer
# is chosen by the best of two (deeper ones may need another than the first), then C for that layer.
STRENGTHS_OF_LAYERS = (0.01, 0.1)
OTHER_STRENGTHS = (0.001, 0.003, 0.03)


@dataclass
class Features:
    """What the head gets of each window if the model ends after layer 1, 2, ..."""

    layers: list[np.ndarray]  # of each layer, shape (windows, hidden)
    clips: np.ndarray  # int, shape (windows,): the clip's index, rising
    labels: np.ndarray  # int, shape (windows,)
    groups: np.ndarray  # str, shape (windows,): the artist, or the clip where that is unknown
    is_crop: np.ndarray  # bool, shape (windows,): augmented; to fit on, not to score

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """For a regression on these rows: the windows of a clip share its weight, the clips of a

        genre that of the genre.
        """
        clips, labels = self.clips[rows], self.labels[rows]
        of_clip = 1 / np.bincount(clips)[clips]
        clips_of_genre = np.bincount(labels, of_clip)
        mean = clips_of_genre[clips_of_genre > 0].mean()
        return of_clip * mean / clips_of_genre[labels]


def transformer_layers(model: PreTrainedModel) -> nn.ModuleList:
    base = model.base_model
    return base.layers if model.config.model_type == AST else base.encoder.layers


def has_linear_head(model: PreTrainedModel) -> bool:
    """HuBERT, wav2vec2, WavLM and Whisper have a projector, the mean over time, and a classifier;

    AST has the mean of two tokens, a norm and a linear layer. What other encoders do behind their
    last layer, such as a norm, `head_input` does not know.
    """
    return model.config.model_type in (AST, *WITH_PROJECTOR)


def keep_layers(model: PreTrainedModel, n: int) -> None:
    """Cut off the transformer layers behind the first `n`, in the net and in its configuration."""
    del transformer_layers(model)[n:]
    model.config.num_hidden_layers = n


def fit_linear_probe(trainer: ClipTrainer, crops: CropDataset) -> dict[str, Any]:
    """Cut the model behind its best layer and set its head, both by the clips to train on.

    Processes share the forward passes; the first one chooses and fits for all.

    Returns:
        `layers` that are kept, `of_layers`, the regression's `C`, and `cross_validated_accuracy`.
    """
    model = trainer.model.eval()
    features = extract_features(trainer, crops)
    found = [None, None]
    if trainer.accelerator.is_main_process:
        # These products are small: with two threads of BLAS they took ten times as long on a
        # machine that others use, too.
        with threadpool_limits(1):
            choice = choose_layer(features)
        everything = np.arange(len(features.clips))
        found = [
            choice,
            _fit(features.layers[choice["layers"] - 1], features, everything, choice["C"]),
        ]
    choice, pipeline = broadcast_object_list(found)
    keep_layers(model, choice["layers"])
    _set_head(model, pipeline)
    return choice


def describe_choice(choice: dict[str, Any]) -> str:
    return (
        f"Linear probe on layer {choice['layers']} of {choice['of_layers']}, C={choice['C']:g}: "
        f"accuracy {choice['cross_validated_accuracy']:.3f}, cross-validated over the artists of "
        "train."
    )


def choose_layer(features: Features) -> dict[str, Any]:
    """The layer and the C of the least negative log-likelihood on clips of unknown artists."""
    first = np.unique(features.clips, return_index=True)[1]
    references = features.labels[first]

    def score(n_layers: int, strength: float) -> tuple[float, int, float, float]:
        probabilities = cross_validate(features.layers[n_layers - 1], features, strength)
        loss = negative_log_likelihood(probabilities, references)
        return loss, n_layers, strength, accuracy(probabilities, references)

    layers = range(1, len(features.layers) + 1)
    best = min(score(layer, strength) for layer in layers for strength in STRENGTHS_OF_LAYERS)
    _, n_layers, strength, accuracy_ = min(best, *(score(best[1], c) for c in OTHER_STRENGTHS))
    return {
        "layers": n_layers,
        "of_layers": len(features.layers),
        "C": strength,
        "cross_validated_accuracy": accuracy_,
    }


def cross_validate(layer: np.ndarray, features: Features, strength: float) -> np.ndarray:
    """Probabilities of clips whose artist the regression was not fitted on.

    Returns:
        Shape (clips, genres).

    Raises:
        InputError: there are too few clips, or artists, to leave some out.
    """
    n_of_genre = np.bincount(features.labels[~features.is_crop])
    # As many as scikit-learn allows.
    n_folds = min(N_FOLDS, n_of_genre.max(), len(set(features.groups)))
    if n_folds < 2 or np.count_nonzero(n_of_genre) < 2:
        raise InputError(
            "The linear probe needs two genres, and two clips by different artists, in train: add "
            "clips, or leave it out by --linear_probe False."
        )
    probabilities = np.zeros((len(layer), len(n_of_genre)))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a genre of fewer clips than folds
        for train, others in folds.split(layer, features.labels, features.groups):
            if len(only := np.unique(features.labels[train])) == 1:  # few artists in all
                probabilities[others, only] = 1
                continue
            pipeline = _fit(layer, features, train, strength)
            # Few artists: a fold may lack a genre, whose probability is then 0.
            columns = np.ix_(others, pipeline[-1].classes_)
            probabilities[columns] = pipeline.predict_proba(layer[others])
    scored = np.flatnonzero(~features.is_crop)
    first = np.unique(features.clips[scored], return_index=True)[1]
    n_windows = np.bincount(features.clips[scored])
    return np.add.reduceat(probabilities[scored], first) / n_windows[n_windows > 0, None]


def extract_features(trainer: ClipTrainer, crops: CropDataset) -> Features:
    """Features of all clips, in every process; each computes its share."""
    clips = ClipDataset(crops.clips, crops.window)
    is_main = trainer.accelerator.is_main_process
    rows: list[tuple[int, int, bool, list[np.ndarray]]] = []
    with trainer.accelerator.split_between_processes(list(range(len(clips)))) as share:
        n_workers = trainer.args.dataloader_num_workers  # they cut windows while a GPU computes
        loader = DataLoader(
            _WindowsToProbe(clips, crops), None, sampler=share, num_workers=n_workers,
            collate_fn=list, generator=torch.Generator(),  # the run's own random numbers stay
        )  # fmt: skip
        is_hidden = trainer.args.disable_tqdm or not is_main
        bar = tqdm(loader, "Linear probe", unit=" clips", disable=is_hidden)
        windows_of_clips = itertools.chain.from_iterable(bar)
        while batch := list(itertools.islice(windows_of_clips, BATCH_SIZE)):
            rows += _add_layers(trainer, batch)
    of_clip, labels, is_crop, layers = zip(*gather_object(rows), strict=True)
    groups = artist_groups(clips.artists)[np.array(of_clip)]
    stacked = [np.stack(layer) for layer in zip(*layers, strict=True)]
    return Features(stacked, np.array(of_clip), np.array(labels), groups, np.array(is_crop))


@dataclass
class _WindowsToProbe(Dataset):
    """Of each clip the windows: its index, its label, whether it is a random crop, samples."""

    clips: ClipDataset
    crops: CropDataset

    def __getitem__(self, i: int) -> list[tuple[int, int, bool, np.ndarray]]:
        item = self.clips[i]
        chosen = np.linspace(0, len(item["windows"]) - 1, N_WINDOWS).round().astype(int)
        plain = [item["windows"][j] for j in np.unique(chosen)]
        random = self.crops.augmented(self.clips.tracks[i], N_WITH_CROPS - len(plain))
        return [
            (i, item["label"], is_random, window)
            for is_random, of_kind in ((False, plain), (True, random))
            for window in of_kind
        ]


def _add_layers(
    trainer: ClipTrainer, batch: list[tuple[int, int, bool, np.ndarray]]
) -> list[tuple[int, int, bool, list[np.ndarray]]]:
    """Rows with features, float32, of every layer in the place of samples."""
    model = trainer.model
    cuts = windows.extract_features(trainer.processing_class, [samples for *_, samples in batch])
    inputs = trainer._prepare_inputs({model.main_input_name: cuts})
    layers: list[np.ndarray] = []

    def keep(layer: nn.Module, _, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        states = output[0] if isinstance(output, tuple) else output
        layers.append(head_input(model, states).float().cpu().numpy())

    hooks = [layer.register_forward_hook(keep) for layer in transformer_layers(model)]
    try:
        with torch.no_grad(), trainer.accelerator.autocast():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [(*known, of_window) for (*known, _), *of_window in zip(batch, *layers, strict=True)]


def head_input(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """What the linear layers of the head get if a model ends with these states.

    Args:
        states: of a transformer layer, shape (clips, times, hidden).

    Returns:
        Shape (clips, hidden). The mean over time may come before the projector, which is linear.
    """
    base = model.base_model
    if model.config.model_type == AST:
        return model.classifier.layernorm(base.layernorm(states)[:, :2].mean(1))
    if model.config.model_type == "whisper" or getattr(model.config, "do_stable_layer_norm", False):
        states = base.encoder.layer_norm(states)
    return states.mean(1)


def _fit(layer: np.ndarray, features: Features, rows: np.ndarray, strength: float) -> Pipeline:
    return _regression(strength).fit(
        layer[rows],
        features.labels[rows],
        logisticregression__sample_weight=features.weights(rows),
    )


def _regression(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _set_head(model: PreTrainedModel, pipeline: Pipeline) -> None:
    """Write scaler and regression into the linear layers of the head.

    With projector and classifier, the projector standardizes and rotates. Its first outputs carry
    the regression: all of it, or the best approximation of their number. The others are random, for
    fine-tuning to use.
    """
    scaler = pipeline[0]
    weight, bias = _weights_of_all_genres(pipeline[-1], model.config.num_labels)
    if model.config.model_type == AST:
        scaled = weight / scaler.scale_
        _set(model.classifier.dense, scaled, bias - scaled @ scaler.mean_)
        return
    n_inputs, n_outputs = len(scaler.mean_), model.projector.out_features
    random = np.random.default_rng(0).standard_normal((n_inputs, max(n_inputs, n_outputs)))
    principal = np.linalg.svd(weight, full_matrices=False)[2].T
    n_orthogonal = min(n_inputs, n_outputs)
    directions = np.linalg.qr(np.hstack([principal, random])[:, :n_orthogonal])[0]
    left = random[:, : n_outputs - n_orthogonal]  # more outputs than inputs
    projection = np.hstack([directions, left / np.sqrt(n_inputs)]).T
    classifier = np.hstack([weight @ directions, np.zeros((len(weight), left.shape[1]))])
    offset = -projection @ (scaler.mean_ / scaler.scale_)
    _set(model.projector, projection / scaler.scale_, offset)
    _set(model.classifier, classifier, bias)


def _weights_of_all_genres(
    regression: LogisticRegression, n_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, shape (labels, features), and intercepts, also of genres that train lacks."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn keeps the log-odds of the second one only
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = np.zeros((n_labels, coefficients.shape[1]))
    bias = np.full(n_labels, intercepts.min() - 5.0)
    weight[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    return weight, bias


def _set(layer: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
