"""Augmentation of clips in training, so that the model learns music and not the recordings.

All random numbers come from a generator that the caller seeds by seed, epoch and crop. So a resumed
run, or one with several processes, gets the same crops as any other run.
"""

import numpy as np
import soxr
import torch
from torchaudio.transforms import SpecAugment

from music_genre.wav import num_samples, read_wav

SPEEDS = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
TIME_MASKED, FREQUENCIES_MASKED = 0.15, 0.2  # largest share, for each of two stripes


def random_crop(
    data: bytes, window: int, rng: np.random.Generator, speed_perturbation: bool = False
) -> np.ndarray:
    """A random crop of a clip's WAV, up to 15 % slower or faster; float32, shape (window,).

    A shorter clip is looped from a random start: padding with zeros would change DistilHuBERT's
    group norm, with or without a mask.
    """
    factor = float(rng.choice(SPEEDS)) if speed_perturbation else 1.0
    length = round(window * factor)
    start = int(rng.integers(max(0, num_samples(data) - length) + 1))
    crop = read_wav(data, start, length)
    if len(crop) < length:
        crop = np.resize(np.roll(crop, rng.integers(len(crop))), length)
    return np.resize(soxr.resample(crop, factor, 1.0) if factor != 1 else crop, window)


def mix(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Mix two crops: make them equally loud, then add them by `share`, at the level of `one`.

    This is mixup for sounds as in Tokozume et al., "Learning from Between-class Examples for Deep
    Sound Recognition", ICLR 2018, equation 2 (with RMS for the level). Returns float32.
    """
    level, other_level = (float(np.sqrt(x @ x / len(x))) + 1e-6 for x in (one, other))
    loudness = np.sqrt(share**2 + (1 - share) ** 2)
    other_share = (1 - share) * level / other_level
    return np.float32(share / loudness) * one + np.float32(other_share / loudness) * other


def mask_spectrograms(spectrograms: torch.Tensor, seed: int) -> torch.Tensor:
    """SpecAugment (Park et al., Interspeech 2019): mask two stripes of time and two of frequency.

    Args:
        spectrograms: shape (clips, frequencies, times). Each one gets its own stripes.
        seed: of the stripes; training's own random number generator is not used.
    """
    n_frequencies, n_times = spectrograms.shape[1:]
    masks = SpecAugment(
        n_time_masks=2,
        time_mask_param=int(TIME_MASKED * n_times),
        n_freq_masks=2,
        freq_mask_param=int(FREQUENCIES_MASKED * n_frequencies),
        iid_masks=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return masks(spectrograms)
