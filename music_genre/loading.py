"""Finding and loading models: from a folder or from the Hub.

All of them are what `AutoModelForAudioClassification` knows: HuBERT, wav2vec2, WavLM, AST, Whisper.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import httpx  # the client's own: not the package of that name
from safetensors import SafetensorError
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

from music_genre.errors import InputError

LOADING_LOGGERS = (
    "transformers.modeling_utils",  # prints a table of tensors that do not fit
    "transformers.distributed.tensor_parallel",  # of tensors that several GPUs would not share
)
# For a model that does not say what it was trained on: most were trained on AudioSet's clips, which
# last 10 s.
DEFAULT_WINDOW_SECONDS = 10.0
HUB_SECONDS = 10  # until a Hub that does not answer counts as out of reach
# What transformers raises for files that are missing, wrong or cut.
UNUSABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError)
HEAD = ("classifier.", "projector.", "layer_weights")  # how names of its tensors start
# No code of a repository is run, and nobody is asked whether it may be. Weights may be stored in
# half precision; features are float32.
SAFELY = {"trust_remote_code": False, "dtype": torch.float32}


class ModelError(InputError):
    """A model that cannot be loaded; the message says why and what to do."""


def find_model(model_id: str, revision: str | None = None) -> dict[str, Any]:
    """Ask once, and quickly, whether a model is there.

    Returns:
        The keyword arguments for `from_pretrained`, which would try every file for half a minute.

    Raises:
        ModelError: no such folder or repository, or no network and nothing in the cache.
    """
    if Path(model_id).is_dir():
        if not Path(model_id, "config.json").is_file():
            raise ModelError(f"{model_id} is not a model: there is no config.json in it.")
        if revision:
            raise ModelError(
                f"{model_id} is a folder, which has no revision {revision}: leave it out."
            )
        return {"pretrained_model_name_or_path": model_id}
    found = {"pretrained_model_name_or_path": model_id, "revision": revision or "main"}
    try:
        get_hf_file_metadata(
            hf_hub_url(model_id, "config.json", revision=revision), timeout=HUB_SECONDS
        )
    except HFValidationError as error:
        raise ModelError(
            f"There is no folder {model_id}, and no model on the Hub can be named so."
        ) from error
    except (httpx.HTTPError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", 500)
        if status < 500 and status != 429:
            raise ModelError(
                f"The Hub has no model {model_id}{f' at {revision}' if revision else ''} that you "
                f"may read ({status}), and there is no folder of that name. If it is private or "
                "gated, run `hf auth login`."
            ) from error
        cached = try_to_load_from_cache(model_id, "config.json", revision=revision)
        if not isinstance(cached, str):
            raise ModelError(
                f"There is no folder {model_id}, and the Hub cannot be reached to look for a model "
                "of that name, which its cache here does not have: name a folder that holds a "
                "model, or get online."
            ) from error
        found["local_files_only"] = True
    return found


@contextmanager
def without_warnings(*logger_names: str) -> Iterator[None]:
    """Of libraries that warn about what is expected here."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in logger_names}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def commit_of(location: dict[str, Any]) -> str | None:
    """The commit of a model that was loaded from the Hub; None for one from a folder."""
    if "revision" not in location:
        return None
    cached = try_to_load_from_cache(
        location["pretrained_model_name_or_path"], "config.json", revision=location["revision"]
    )
    return Path(cached).parent.name if isinstance(cached, str) else None


def load_feature_extractor(location: dict[str, Any]) -> SequenceFeatureExtractor:
    try:
        return AutoFeatureExtractor.from_pretrained(**location, trust_remote_code=False)
    except UNUSABLE as error:
        raise unusable(location, error) from error


def register_own_types(location: dict[str, Any]) -> None:
    """Make transformers know the mel CNN, the baseline of this project, where it is asked for."""
    config, _ = PreTrainedConfig.get_config_dict(**location)
    if config.get("model_type") == "mel-cnn":
        import music_genre.mel_cnn  # noqa: F401


def load_classifier(location: dict[str, Any]) -> PreTrainedModel:
    """A fine-tuned model, for serving: safetensors only, no code from its repository.

    Raises:
        ModelError: it cannot be loaded, or it is no classifier with labels from 0 on.
    """
    try:
        register_own_types(location)
        with without_warnings(*LOADING_LOGGERS):
            model, info = AutoModelForAudioClassification.from_pretrained(
                **location, **SAFELY, use_safetensors=True, output_loading_info=True
            )
    except UNUSABLE as error:
        raise unusable(location, error) from error
    name = location["pretrained_model_name_or_path"]
    # transformers gives a model without a head a random one.
    if lacking := sorted(tensor for tensor in info["missing_keys"] if tensor.startswith(HEAD)):
        raise ModelError(
            f"{name} cannot be used, as it is no classifier: {lacking[0]} is missing. Train it "
            "first."
        )
    if model.config.id2label.keys() != set(range(model.config.num_labels)):
        raise ModelError(f"{name} cannot be used: its labels are not numbered from 0.")
    return model.eval().requires_grad_(False)


def unusable(location: dict[str, Any], error: Exception) -> ModelError:
    """transformers blames a missing file for a download that broke off: look for the cause."""
    name = location["pretrained_model_name_or_path"]
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, SafetensorError):
        reason = "its weights are cut or damaged; copy or download them again"
    cause: BaseException | None = error
    while cause := cause.__cause__ or cause.__context__:
        if isinstance(cause, httpx.TransportError):
            reason = "the connection to the Hub broke off; try again"
    return ModelError(f"{name} cannot be loaded as an audio classifier: {reason}")
