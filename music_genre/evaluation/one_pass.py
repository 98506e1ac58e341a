"""One pass of a model over a whole clip, as in a plain transformers `pipeline`.

`GenreClassifier` averages over windows as long as in training. Anyone who loads a published model
in a `pipeline` gets one pass instead, so both are measured.
"""

import numpy as np
from transformers import AudioClassificationPipeline, PreTrainedModel, SequenceFeatureExtractor

SECONDS = 0.1, 60.0  # shorter clips give no frame; attention over longer ones fills the memory
AST_FRAME_SECONDS = 0.01


def seconds_in_one_pass(feature_extractor: SequenceFeatureExtractor) -> float | None:
    """Return how many seconds of a file's start one pass uses; None if it uses the whole file."""
    if hasattr(feature_extractor, "n_samples"):  # Whisper
        return feature_extractor.n_samples / feature_extractor.sampling_rate
    if hasattr(feature_extractor, "max_length"):  # AST
        return feature_extractor.max_length * AST_FRAME_SECONDS
    return None


def classify_in_one_pass(
    model: PreTrainedModel, feature_extractor: SequenceFeatureExtractor, waveform: np.ndarray
) -> np.ndarray | None:
    """Return the probabilities of transformers' own pipeline: float64, shape (labels,).

    They are None if the clip, float32 of shape (samples,), is too short or too long for one pass.
    """
    seconds = len(waveform) / feature_extractor.sampling_rate
    is_cut = seconds_in_one_pass(feature_extractor) is not None
    if seconds < SECONDS[0] or (seconds > SECONDS[1] and not is_cut):
        return None
    classify = AudioClassificationPipeline(
        model, feature_extractor=feature_extractor, device=model.device, top_k=None
    )
    scores = {row["label"]: row["score"] for row in classify(waveform)}
    return np.array([scores[label] for _, label in sorted(model.config.id2label.items())])
