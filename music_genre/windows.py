"""Cut a clip into windows, in the same way in evaluation and serving, so that figures carry over.

Training uses random crops instead: see training/augmentation.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import SequenceFeatureExtractor

# GTZAN's clips last 29.9 to 30.6 s, so most would need an eleventh window of 3 s for a few
# hundredths of a second. Up to a tenth of a window may fall into the gaps between windows.
MAX_GAP = 0.1


def window_starts(num_samples: int, window: int) -> np.ndarray:
    """Return the first samples of the fewest windows that cover a clip, spread evenly over it.

    Args:
        num_samples, window: lengths in samples. A clip shorter than a window is one window.

    Returns:
        int64, shape (windows,), ascending; the last window ends with the clip.
    """
    num_windows = max(1, int(np.ceil(num_samples / window - MAX_GAP)))
    return np.linspace(0, max(0, num_samples - window), num_windows).round().astype(np.int64)


def cut(waveform: np.ndarray, window: int) -> list[np.ndarray]:
    """Cut a waveform, shape (samples,), into windows, all of length `window`, as views.

    A shorter waveform is looped, as short clips are in training: zeros would affect DistilHuBERT's
    group norm, and Whisper would treat a break as a sound of its own.
    """
    if len(waveform) < window:
        return [np.resize(waveform, window)]
    return [waveform[start : start + window] for start in window_starts(len(waveform), window)]


def extract_features(
    feature_extractor: SequenceFeatureExtractor, windows: Sequence[np.ndarray]
) -> torch.Tensor:
    """Return the model input for windows of equal length: float32, shape (windows, ...).

    It has no padding and no attention mask: DistilHuBERT's group norm covers the whole window, and
    a mask would only say that nothing is padded.
    """
    features = feature_extractor(
        list(windows), sampling_rate=feature_extractor.sampling_rate, return_tensors="pt"
    )
    return features[feature_extractor.model_input_names[0]]
