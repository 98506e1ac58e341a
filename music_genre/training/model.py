"""The model to train: a pretrained encoder with a new head, for windows of one length."""

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

from data_prep.genres import Spellings
from music_genre.errors import InputError
from music_genre.loading import (
    HEAD,
    LOADING_LOGGERS,
    SAFE_OPTIONS,
    UNUSABLE,
    ModelFolder,
    load_classifier,
    load_feature_extractor,
    unusable,
    without_warnings,
)
from music_genre.training.processes import print_once

# Families whose feature extractor gives spectrograms; the others take waveforms.
AST, EFFICIENTAT = "audio-spectrogram-transformer", "efficientat"
SPECTROGRAM_MODELS = ("whisper", AST, EFFICIENTAT)


def load_for_training(
    found: ModelFolder, labels: list[str], window_seconds: float, from_scratch: bool
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """A model with a new head for `labels`, and the feature extractor that goes with it.

    Args:
        labels: in the order of the dataset's ClassLabel.
        window_seconds: length of the model's windows in seconds; saved in config.json.
        from_scratch: use only the configuration, with random weights.
    """
    names = {
        "label2id": {label: i for i, label in enumerate(labels)},
        "id2label": dict(enumerate(labels)),
    }
    feature_extractor = load_feature_extractor(found)
    try:
        config = AutoConfig.from_pretrained(found.path, **names, **SAFE_OPTIONS)
        config.window_seconds = window_seconds
        if from_scratch:
            model = AutoModelForAudioClassification.from_config(config)
        else:
            with without_warnings(*LOADING_LOGGERS):
                model, info = AutoModelForAudioClassification.from_pretrained(
                    found.path,
                    **SAFE_OPTIONS,
                    config=config,
                    ignore_mismatched_sizes=True,  # another head's labels
                    output_loading_info=True,
                )
            _report_random_tensors(found, info)
            if config.model_type == EFFICIENTAT:
                has_head = not any(name.startswith(HEAD) for name in info["missing_keys"])
                start_from_base_classes(model, load_classifier(found) if has_head else None)
    except UNUSABLE as error:
        raise unusable(found, error) from error
    if model.config.model_type not in SPECTROGRAM_MODELS:
        # Zero mean and unit variance per window, so that loudness does not matter.
        feature_extractor.do_normalize = True
        feature_extractor.return_attention_mask = False
    elif model.config.model_type == "whisper":
        _shorten_whisper(model, feature_extractor, window_seconds)
    elif model.config.model_type == AST:
        _shorten_ast(model, feature_extractor, window_seconds)
    return model, feature_extractor


def start_from_base_classes(model: PreTrainedModel, base: PreTrainedModel | None) -> None:
    """Copy the rows of the base's last layer whose classes are genres, in any spelling.

    AudioSet's "Heavy metal" is GTZAN's "metal". Genres without a class in the base get zeros, and
    so do all genres if there is no base.
    """
    key = Spellings.read(None).key
    rows: dict[str, int] = {}
    for row, name in base.config.id2label.items() if base else ():
        for spelling in (name, name.removesuffix(" music")):
            rows.setdefault(key(spelling), row)
    with torch.no_grad():
        for label, genre in model.config.id2label.items():
            row = rows.get(key(genre))
            model.classifier.weight[label] = 0 if row is None else base.classifier.weight[row]
            model.classifier.bias[label] = 0 if row is None else base.classifier.bias[row]


def _report_random_tensors(found: ModelFolder, info: dict[str, Any]) -> None:
    """Warn about tensors missing from the pretrained weights, except a new head's."""
    lacking = info["missing_keys"] | {name for name, *_ in info["mismatched_keys"]}
    lacking = sorted(name for name in lacking if not name.startswith(HEAD))
    if lacking:
        print_once(
            f"Warning: {found.name} lacks {len(lacking)} tensors of the encoder, such as "
            f"{lacking[0]}, which start with random weights."
        )


def _shorten_whisper(
    model: PreTrainedModel, feature_extractor: SequenceFeatureExtractor, window_seconds: float
) -> None:
    """Cut Whisper's position table to the window: otherwise it pads a 5 s window to 30 s.

    Its positions are sinusoids, so the first ones mean the same in a shorter table. The feature
    extractor and config.json change in the same way, so that a plain `pipeline` loads the model.
    """
    if window_seconds != int(window_seconds) or not 1 <= window_seconds <= 30:
        raise InputError(f"Whisper takes windows of 1 to 30 whole seconds, not {window_seconds:g}.")
    seconds = int(window_seconds)
    feature_extractor.chunk_length = seconds
    feature_extractor.n_samples = seconds * feature_extractor.sampling_rate
    feature_extractor.nb_max_frames = feature_extractor.n_samples // feature_extractor.hop_length
    n_positions = feature_extractor.nb_max_frames // 2  # the second convolution has stride 2
    table = model.encoder.embed_positions
    model.encoder.embed_positions = nn.Embedding.from_pretrained(
        table.weight.detach()[:n_positions].clone(), freeze=not table.weight.requires_grad
    )
    model.encoder.max_source_positions = n_positions
    model.config.max_source_positions = n_positions


def _shorten_ast(
    model: PreTrainedModel, feature_extractor: SequenceFeatureExtractor, window_seconds: float
) -> None:
    """Cut AST's grid of positions to the window: otherwise it pads a 5 s window to 10.24 s.

    The middle of the grid is kept, as AST's authors do (Gong et al., "AST: Audio Spectrogram
    Transformer", Interspeech 2021, section 2.2), both in feature extractor and config.json.
    """
    config, embeddings = model.config, model.audio_spectrogram_transformer.embeddings
    n_frames = round(window_seconds * 100)  # the feature extractor's hop is 10 ms
    if not config.patch_size <= n_frames <= config.max_length:
        raise InputError(
            f"This AST takes windows of {config.patch_size / 100:g} to {config.max_length / 100:g} "
            f"seconds, not {window_seconds:g}."
        )
    n_bands, n_old = (
        (size - config.patch_size) // stride + 1
        for size, stride in (
            (config.num_mel_bins, config.frequency_stride),
            (config.max_length, config.time_stride),
        )
    )
    n_new = (n_frames - config.patch_size) // config.time_stride + 1
    start = (n_old - n_new) // 2
    tokens, grid = embeddings.position_embeddings.detach().split((2, n_bands * n_old), dim=1)
    grid = grid.unflatten(1, (n_bands, n_old))[:, :, start : start + n_new].flatten(1, 2)
    embeddings.position_embeddings = nn.Parameter(torch.cat([tokens, grid], dim=1))
    config.max_length = feature_extractor.max_length = n_frames
