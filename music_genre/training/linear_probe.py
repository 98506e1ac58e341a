"""A linear probe: the model with its encoder frozen, cut after the layer that knows genres best.

Fine-tuning starts from it: a random head would send noise through the pretrained layers (Kumar et
al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022).
The last layers of a speech model know words rather than music. Layer and regularization are chosen
together by cross-validation over the artists of train.

A model trained on AudioSet's classes already knows most genres. If its last layer is the head, the
regression is added to the logits of the classes with the same names, called the base's classes.

FAMILIES maps a model_type to two functions. The first returns, for each layer, the head's input if
the encoder ended there: a list of tensors of shape (windows, hidden). The second writes into the
head a standardization and a regression on it: weights of shape (labels, hidden), and biases.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from transformers import PreTrainedModel, Trainer

from music_genre import windows
from music_genre.errors import InputError
from music_genre.evaluation.calibration import last_layer
from music_genre.evaluation.intervals import artist_groups
from music_genre.evaluation.metrics import accuracy, negative_log_likelihood
from music_genre.training.clips import CropDataset, TrackDataset
from music_genre.training.model import AST, EFFICIENTAT
from music_genre.training.processes import shared

# Windows per track, spread over it, and the total with random crops if the run augments crops.
# More windows per track hardly improve a linear probe.
N_WINDOWS, N_WITH_CROPS = 4, 8
# More tracks hardly change a linear probe, and the vectors of all tracks are in memory together.
MAX_TRACKS = 2_000
N_FOLDS = 5
# C of the logistic regression on standardized features, where a track weighs 1 on average. Layers
# are compared with two values, as deeper ones may need another C; then C is chosen for the best.
STRENGTHS_OF_LAYERS = (0.01, 0.1)
OTHER_STRENGTHS = (0.001, 0.003, 0.03)
# Factors of the base's logits that are added to the regression's; chosen together with C.
BASE_SHARES = (0.0, 0.5, 1.0)


# --- what differs by family -----------------------------------------------------------------


def _hidden_states(model: PreTrainedModel, inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output of each transformer layer, shape (windows, times, hidden)."""
    outputs = model(**{model.main_input_name: inputs}, output_hidden_states=True)
    return list(outputs.hidden_states[1:])  # the first is the input of the first layer


def _speech_vectors(model: PreTrainedModel, inputs: torch.Tensor) -> list[torch.Tensor]:
    """HuBERT, wav2vec2 and WavLM.

    transformers projects and then averages over time. The projector is linear, so averaging first
    gives the same.
    """
    states = _hidden_states(model, inputs)
    if getattr(model.config, "do_stable_layer_norm", False):
        states = [model.base_model.encoder.layer_norm(state) for state in states]
    return [state.mean(1) for state in states]


def _whisper_vectors(model: PreTrainedModel, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Whisper, whose last state already includes the layer norm."""
    *states, last = _hidden_states(model, inputs)
    states = [model.base_model.encoder.layer_norm(state) for state in states]
    return [state.mean(1) for state in (*states, last)]


def _ast_vectors(model: PreTrainedModel, inputs: torch.Tensor) -> list[torch.Tensor]:
    """AST: the mean of the first two tokens, after both norms."""
    norm, head_norm = model.base_model.layernorm, model.classifier.layernorm
    return [head_norm(norm(s)[:, :2].mean(1)) for s in _hidden_states(model, inputs)]


def _efficientat_vectors(model: PreTrainedModel, inputs: torch.Tensor) -> list[torch.Tensor]:
    """The input of the head's last layer, since the layer before it knows AudioSet's classes."""
    pooled = model.base_model(inputs).pooler_output
    return [nn.functional.hardswish(model.projector(pooled))]


def _write_projector(
    model: PreTrainedModel, scaler: StandardScaler, weight: np.ndarray, bias: np.ndarray
) -> None:
    """Write the regression into projector and classifier; the projector standardizes and rotates.

    Its first outputs are the directions of the regression, or the best low-rank approximation if
    it is too narrow for all of them. The other outputs are random, for fine-tuning to use.
    """
    n_inputs, n_outputs = len(scaler.mean_), model.projector.out_features
    random = np.random.default_rng(0).standard_normal((n_inputs, max(n_inputs, n_outputs)))
    principal = np.linalg.svd(weight, full_matrices=False)[2].T
    n_orthogonal = min(n_inputs, n_outputs)
    directions = np.linalg.qr(np.hstack([principal, random])[:, :n_orthogonal])[0]
    left = random[:, : n_outputs - n_orthogonal]  # if outputs outnumber inputs
    projection = np.hstack([directions, left / np.sqrt(n_inputs)]).T
    classifier = np.hstack([weight @ directions, np.zeros((len(weight), left.shape[1]))])
    offset = -projection @ (scaler.mean_ / scaler.scale_)
    set_linear(model.projector, projection / scaler.scale_, offset)
    set_linear(model.classifier, classifier, bias)


def _write_last_layer(
    model: PreTrainedModel, scaler: StandardScaler, weight: np.ndarray, bias: np.ndarray
) -> None:
    """AST and EfficientAT: the last layer takes the vectors as they are."""
    scaled = weight / scaler.scale_
    set_linear(last_layer(model), scaled, bias - scaled @ scaler.mean_)


def set_linear(layer: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))


FAMILIES = {
    "hubert": (_speech_vectors, _write_projector),
    "wav2vec2": (_speech_vectors, _write_projector),
    "wavlm": (_speech_vectors, _write_projector),
    "whisper": (_whisper_vectors, _write_projector),
    AST: (_ast_vectors, _write_last_layer),
    EFFICIENTAT: (_efficientat_vectors, _write_last_layer),
}


def can_have_linear_probe(model: PreTrainedModel) -> bool:
    """Whether the family is known, and no weighted sum already chooses among the layers."""
    has_sum = getattr(model.config, "use_weighted_layer_sum", False)
    return model.config.model_type in FAMILIES and not has_sum


# --- the same for all -----------------------------------------------------------------------


def keep_layers(model: PreTrainedModel, n: int) -> None:
    """Keep only the first `n` transformer layers, in the model and in its configuration.

    A model without transformer layers is not changed.
    """
    encoder = getattr(model.base_model, "encoder", model.base_model)
    if hasattr(encoder, "layers"):
        del encoder.layers[n:]
        model.config.num_hidden_layers = n


@dataclass
class Features:
    """The head's input for each window if the model ends after layer 1, 2, ..."""

    layers: list[np.ndarray]  # one per layer, float32, shape (windows, hidden)
    tracks: np.ndarray  # int, shape (windows,): the track's index, ascending
    labels: np.ndarray  # int, shape (windows,)
    groups: np.ndarray  # str, shape (windows,): the artist, or the track if it is unknown
    is_crop: np.ndarray  # bool, shape (windows,): augmented; only for fitting
    over: str = ""  # what cross-validation is over, in words
    base_logits: np.ndarray | None = None  # of the base's classes, shape (windows, labels)

    def weights(self) -> np.ndarray:
        """The weight of each window: windows share their track's weight, genres weigh the same."""
        track_weights = 1 / np.bincount(self.tracks)[self.tracks]
        tracks_of_genre = np.bincount(self.labels, track_weights)
        mean = tracks_of_genre[tracks_of_genre > 0].mean()
        return track_weights * mean / tracks_of_genre[self.labels]


def fit_linear_probe(trainer: Trainer, crops: CropDataset) -> dict[str, Any]:
    """Cut the model after its best layer and set its head, both by the tracks of train.

    Processes share the forward passes; the first process chooses and fits for all.

    Returns:
        What `choose` returns.
    """
    model = trainer.model.eval()
    features = extract_features(trainer, crops)
    base_weight = weight_of_base_classes(model)
    base_mean = np.average(features.layers[-1], axis=0, weights=features.weights())
    if base_weight is not None:
        features.base_logits = (features.layers[-1] - base_mean) @ base_weight.T
    found = [None, None]
    if PartialState().is_main_process:
        # These matrix products are small: with two BLAS threads they took ten times as long on a
        # shared machine.
        with threadpool_limits(1):
            choice = choose(features)
            regression = _regression(choice["C"]).fit(
                features.layers[choice["layers"] - 1],
                features.labels,
                logisticregression__sample_weight=features.weights(),
            )
        found = [choice, regression]
    choice, regression = broadcast_object_list(found)
    keep_layers(model, choice["layers"])
    weight, bias = _weights_of_all_genres(regression[-1], model.config.num_labels)
    if base_weight is not None:  # on standardized features, like the regression
        share, scaler = choice["known_share"], regression[0]
        weight = weight + share * base_weight * scaler.scale_
        bias = bias + share * base_weight @ (scaler.mean_ - base_mean)
    write_head = FAMILIES[model.config.model_type][1]
    write_head(model, regression[0], weight, bias)
    return choice


def weight_of_base_classes(model: PreTrainedModel) -> np.ndarray | None:
    """The last layer's weight, shape (labels, hidden), if it has the base's classes; else None."""
    if model.config.model_type != EFFICIENTAT:
        return None
    weight = model.classifier.weight.detach().cpu().double().numpy()
    return weight if weight.any() else None


def describe_choice(choice: dict[str, Any]) -> str:
    layer = f" on layer {choice['layers']} of {choice['of_layers']}" * (choice["of_layers"] > 1)
    share = choice["known_share"]
    base_note = f", with {share:g} of the classes that the base knows" if share else ""
    return (
        f"Linear probe{layer}, C={choice['C']:g}{base_note}: "
        f"accuracy {choice['cross_validated_accuracy']:.3f}, cross-validated over {choice['over']}."
    )


def extract_features(trainer: Trainer, crops: CropDataset) -> Features:
    """The features of up to MAX_TRACKS tracks; processes share the work."""
    model, feature_extractor = trainer.model, trainer.processing_class
    tracks = TrackDataset(crops.clips, crops.window)
    chosen = choose_tracks(tracks.labels)

    def inputs(n: int) -> tuple[int, torch.Tensor]:
        cuts = tracks[chosen[n]]
        plain = np.unique(np.linspace(0, len(cuts) - 1, N_WINDOWS).round().astype(int))
        random = crops.augmented(tracks.tracks[chosen[n]], N_WITH_CROPS - len(plain))
        cuts = [*(cuts[i] for i in plain), *random]
        return len(plain), windows.extract_features(feature_extractor, cuts)

    def vectors(loaded: tuple[int, torch.Tensor]) -> tuple[int, np.ndarray]:
        n_plain, features = loaded
        vectors_of = FAMILIES[model.config.model_type][0]
        with torch.no_grad(), trainer.accelerator.autocast():
            layers = vectors_of(model, features.to(model.device, non_blocking=True))
        return n_plain, torch.stack(layers).float().cpu().numpy()

    found = shared(len(chosen), inputs, vectors, "Linear probe", trainer.args)
    artists = np.array(tracks.artists)[chosen].tolist()
    n_known = sum(map(bool, artists))
    lengths = [layers.shape[1] for _, layers in found]
    repeat = np.repeat(np.arange(len(chosen)), lengths)
    is_crop = [np.arange(length) >= n for (n, _), length in zip(found, lengths, strict=True)]
    return Features(
        list(np.concatenate([layers for _, layers in found], axis=1)),
        repeat,
        tracks.labels[chosen][repeat],
        artist_groups(artists)[repeat],
        np.concatenate(is_crop),
        f"the artists of train, known for {n_known} of {len(artists)} tracks"
        if n_known
        else "the tracks of train, as no artist is known",
    )


def choose_tracks(labels: np.ndarray) -> np.ndarray:
    """Indices of up to MAX_TRACKS tracks, ascending: genres take turns, tracks are random."""
    order = pd.Series(labels).sample(frac=1, random_state=0)
    turns = order.groupby(order).cumcount().sort_values(kind="stable")
    return np.sort(turns.index[:MAX_TRACKS])


def choose(features: Features) -> dict[str, Any]:
    """What `choose_layer` returns, and `over`: what the cross-validation is over."""
    try:
        return choose_layer(features) | {"over": features.over}
    except TooFewError:
        features.groups = features.tracks.astype(str)
        over = "the tracks of train, as some genres have too few artists"
        return choose_layer(features) | {"over": over}


def choose_layer(features: Features) -> dict[str, Any]:
    """Choose the layer, C and share of the base's classes by the lowest negative log-likelihood.

    It is measured on tracks of artists that the regression was not fitted on.

    Returns:
        `layers` that are kept, `of_layers`, the regression's `C`, the `known_share` of the base's
        classes, and `cross_validated_accuracy`.
    """
    references = features.labels[np.unique(features.tracks, return_index=True)[1]]
    shares = (0.0,) if features.base_logits is None else BASE_SHARES

    def score(n_layers: int, strength: float) -> tuple[float, int, float, float, float]:
        found = cross_validate(features.layers[n_layers - 1], features, strength)
        scores = []
        for share in shares:
            probabilities = mean_of_tracks(add_base_logits(found, features, share), features)
            loss = negative_log_likelihood(probabilities, references)
            right = accuracy(probabilities, references)
            scores.append((loss, n_layers, strength, share, right))
        return min(scores)

    layers = range(1, len(features.layers) + 1)
    best = min(score(layer, strength) for layer in layers for strength in STRENGTHS_OF_LAYERS)
    best = min(best, *(score(best[1], strength) for strength in OTHER_STRENGTHS))
    _, n_layers, strength, share, right = best
    return {
        "layers": n_layers,
        "of_layers": len(features.layers),
        "C": strength,
        "known_share": share,
        "cross_validated_accuracy": right,
    }


def add_base_logits(probabilities: np.ndarray, features: Features, share: float) -> np.ndarray:
    """Add a share of the base's logits to probabilities of windows, shape (windows, genres)."""
    if not share:
        return probabilities
    base_logits = features.base_logits[:, : probabilities.shape[1]]
    with np.errstate(divide="ignore"):  # a genre missing from a fold has probability 0
        return softmax(np.log(probabilities) + share * base_logits, axis=1)


def mean_of_tracks(probabilities: np.ndarray, features: Features) -> np.ndarray:
    """The mean over each track's windows except random crops; shape (tracks, genres)."""
    plain = ~features.is_crop
    tracks = features.tracks[plain]
    first = np.unique(tracks, return_index=True)[1]
    return np.add.reduceat(probabilities[plain], first) / np.bincount(tracks)[:, None]


class TooFewError(InputError):
    """There are too few tracks or artists of a genre to leave some out."""


def cross_validate(layer: np.ndarray, features: Features, strength: float) -> np.ndarray:
    """Probabilities from regressions not fitted on the artist; shape (windows, genres).

    Raises:
        TooFewError: there are too few tracks, or artists, to leave some out.
    """
    n_of_genre = np.bincount(features.labels[~features.is_crop])
    # scikit-learn does not allow more folds than that.
    n_folds = min(N_FOLDS, n_of_genre.max(), len(set(features.groups)))
    with warnings.catch_warnings():
        # Genres with fewer tracks than folds, or with fewer artists: their probability is then 0.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            found = cross_val_predict(
                _regression(strength),
                layer,
                features.labels,
                groups=features.groups,
                cv=StratifiedGroupKFold(n_folds, shuffle=True, random_state=0),
                method="predict_proba",
                params={"logisticregression__sample_weight": features.weights()},
            )
        except ValueError as error:  # only one fold, or one genre left to fit on
            raise TooFewError(
                "The linear probe needs two genres, and two tracks of each, in train: add tracks, "
                "or leave it out by --linear_probe False."
            ) from error
    probabilities = np.zeros((len(layer), len(n_of_genre)))
    probabilities[:, np.unique(features.labels)] = found
    return probabilities


def _regression(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _weights_of_all_genres(
    regression: LogisticRegression, num_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, shape (labels, features), and intercepts, also for genres not in train."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn keeps the log-odds of the second one only
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = np.zeros((num_labels, coefficients.shape[1]))
    bias = np.full(num_labels, intercepts.min() - 5.0)
    weight[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    return weight, bias
