"""Find and load models, from a folder or from the Hub.

The model types are those that `AutoModelForAudioClassification` knows: HuBERT, wav2vec2, WavLM,
AST, Whisper, and this project's form of EfficientAT.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from huggingface_hub.utils import httpx  # the client's own, not the package of that name
from safetensors import SafetensorError
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

import music_genre.efficientat  # noqa: F401  makes the Auto classes know its model type
from music_genre.audio import MAX_SAMPLING_RATE, MIN_SAMPLING_RATE
from music_genre.errors import InputError, first_line
from music_genre.hub_access import explain_hub_errors

LOADING_LOGGERS = (
    "transformers.modeling_utils",  # prints a table of tensors that do not fit
    "transformers.distributed.tensor_parallel",  # lists tensors that GPUs would not share
)
# For models that name no window: most were trained on AudioSet, whose clips last 10 s.
DEFAULT_WINDOW_SECONDS = 10.0
# The files of a model's repository that are read: no checkpoints, no other forms of the weights.
MODEL_FILES = [
    "config.json",
    "preprocessor_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "report.json",
    "train_tracks.json",
    "README.md",
]
HUB_SECONDS = 10  # to wait for an answer before the Hub counts as unreachable
# What transformers raises for files that are missing, wrong or truncated.
UNUSABLE = (
    *(OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError),
    *(TypeError, AttributeError, ImportError),
)
HEAD = ("classifier.", "projector.", "layer_weights")  # prefixes of its tensors' names
TRAINING_ONLY = "masked_spec_embed"  # a tensor that may be missing in serving
# Code from a repository is never run, and transformers must not ask whether to run it. Weights may
# be stored in half precision, but features are float32.
SAFE_OPTIONS = {"trust_remote_code": False, "dtype": torch.float32}


class ModelFolder(NamedTuple):
    """Where the files of a model are on this machine."""

    name: str  # as the user gave it
    path: Path
    commit: str | None  # on the Hub; None for a local folder


def find_model(model_id: str, revision: str | None = None) -> ModelFolder:
    """Find a model in a folder, or download its files from the Hub unless its cache has them.

    Raises:
        InputError: no such folder or repository, or no network and nothing in the cache.
    """
    folder = Path(model_id)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{model_id} is not a model: there is no config.json in it.")
        if revision:
            raise InputError(
                f"{model_id} is a folder, which has no revision {revision}: leave it out."
            )
        return ModelFolder(model_id, folder, None)
    at = f" at {revision}" if revision else ""
    with explain_hub_errors(f"{model_id}{at}", "found here or"):
        snapshot = _download(model_id, revision)
    return ModelFolder(model_id, snapshot, snapshot.name)


def _download(model_id: str, revision: str | None) -> Path:
    """Return a model's folder in the Hub's cache; download it first if the Hub answers."""
    download = partial(snapshot_download, model_id, revision=revision, allow_patterns=MODEL_FILES)
    try:
        # snapshot_download accepts no timeout for its first requests, and retries for minutes.
        HfApi().model_info(model_id, revision=revision, timeout=HUB_SECONDS)
    except RevisionNotFoundError:
        raise
    except (httpx.HTTPError, OSError) as error:
        try:
            return Path(download(local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from None
    return Path(download())


@contextmanager
def without_warnings(*logger_names: str) -> Iterator[None]:
    """Silence loggers whose warnings are expected here."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in logger_names}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def load_feature_extractor(found: ModelFolder) -> SequenceFeatureExtractor:
    """Load the feature extractor of a model.

    Raises:
        InputError: it cannot be loaded, or has no usable sampling rate.
    """
    try:
        feature_extractor = AutoFeatureExtractor.from_pretrained(
            found.path, trust_remote_code=False
        )
    except UNUSABLE as error:
        raise unusable(found, error) from error
    rate = getattr(feature_extractor, "sampling_rate", None)
    if not isinstance(rate, int) or not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE:
        raise InputError(f"{found.name} cannot be used: its sampling rate is {rate}.")
    return feature_extractor


def load_classifier(found: ModelFolder) -> PreTrainedModel:
    """Load a fine-tuned model for serving: safetensors only, no code from its repository.

    Raises:
        InputError: it cannot be loaded, or is not a classifier with labels numbered from 0.
    """
    try:
        with without_warnings(*LOADING_LOGGERS):
            model, info = AutoModelForAudioClassification.from_pretrained(
                found.path, **SAFE_OPTIONS, use_safetensors=True, output_loading_info=True
            )
    except UNUSABLE as error:
        raise unusable(found, error) from error
    # transformers replaces missing tensors with random ones.
    lacking = sorted(name for name in info["missing_keys"] if not name.endswith(TRAINING_ONLY))
    if head := [name for name in lacking if name.startswith(HEAD)]:
        raise InputError(
            f"{found.name} cannot be used, as it is not a classifier: {head[0]} is missing. Train "
            "it first."
        )
    if lacking:
        raise InputError(
            f"{found.name} cannot be used: its weights lack {lacking[0]}. Make or download it "
            "again."
        )
    if model.config.num_labels < 2:
        raise InputError(f"{found.name} cannot be used: it has one label, so nothing to choose.")
    if model.config.id2label.keys() != set(range(model.config.num_labels)):
        raise InputError(f"{found.name} cannot be used: its labels are not numbered from 0.")
    if len(set(model.config.id2label.values())) < model.config.num_labels:
        raise InputError(f"{found.name} cannot be used: two of its labels have the same name.")
    return model.eval().requires_grad_(False)


def unusable(found: ModelFolder, error: Exception) -> InputError:
    reason = first_line(error)
    if isinstance(error, SafetensorError):
        reason = "its weights are cut or damaged; copy or download them again"
    return InputError(f"{found.name} cannot be loaded as an audio classifier: {reason}")
