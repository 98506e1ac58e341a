"""Turn the waveforms that programs pass in into audio files, so that both are handled alike.

as_audio_file((44_100, samples), None)  # the bytes of a WAV, for `audio.decode`
"""

import io
import os
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import soundfile

from music_genre.audio import MAX_CHANNELS, AudioError
from music_genre.errors import InputError

KNOWN = (
    "Pass a path, a file's bytes, a waveform with its sampling_rate, (sampling_rate, "
    'waveform) or {"array": waveform, "sampling_rate": hertz}'
)
INTEGERS = (np.int8, np.uint8, np.int16, np.int32)


def as_audio_file(source: Any, sampling_rate: Any = None) -> bytes | str | os.PathLike:
    """Return a path or a file's bytes unchanged, and a waveform as the bytes of a 32-bit float WAV.

    Args:
        source: a path; a file's bytes; a waveform as an array, a tensor or a list, of shape
            (samples,) or with up to 8 channels as the first or last dimension;
            `(sampling_rate, waveform)` as gradio returns it; a value of an Audio column of
            datasets, decoded or not. Floats are nominally in [-1, 1]; int8, uint8, int16 and int32
            are scaled by their type.
        sampling_rate: hertz; only for a waveform.

    Raises:
        InputError: the source is none of these, or `sampling_rate` is missing or contradicts it.
        AudioError: the sampling rate is not usable.
    """
    if isinstance(source, Mapping) and "array" not in source:
        source = source.get("bytes") or source.get("path") or source
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        if sampling_rate is not None:
            raise InputError("A file says its sampling rate itself: leave sampling_rate out.")
        return bytes(source) if isinstance(source, bytearray | memoryview) else source
    if isinstance(source, Mapping) and "array" in source:
        source = (source.get("sampling_rate"), source["array"])
    elif hasattr(source, "get_all_samples"):  # torchcodec's decoder, from an Audio column
        samples = source.get_all_samples()
        source = (samples.sample_rate, samples.data)
    waveform, rate = source, sampling_rate
    is_pair = isinstance(source, tuple | list) and len(source) == 2
    if is_pair and np.ndim(source[0]) == 0 and not isinstance(source[1], Real):
        rate, waveform = source
        if sampling_rate not in (None, rate):
            raise InputError(f"The waveform has {rate} Hz, and sampling_rate is {sampling_rate}.")
    return _wav(_to_float(waveform), rate)


def _wav(samples: np.ndarray, rate: Any) -> bytes:
    """samples: float32, with channels as the first or last dimension."""
    if samples.ndim == 2 and samples.shape[0] <= MAX_CHANNELS < samples.shape[1]:
        samples = samples.T
    has_channels = samples.ndim == 2 and samples.shape[1] <= MAX_CHANNELS < samples.shape[0]
    if samples.ndim != 1 and not has_channels:
        raise InputError(
            "A waveform has the shape (samples,), (samples, channels) or (channels, samples), with "
            f"up to {MAX_CHANNELS} channels, not {samples.shape}."
        )
    if isinstance(rate, bool) or not isinstance(rate, Real) or rate != rate // 1:
        raise InputError("A waveform needs its sampling_rate, a whole number of hertz.")
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, int(rate), format="WAV", subtype="FLOAT")
    except (soundfile.LibsndfileError, OverflowError) as error:
        raise AudioError(f"its sampling rate of {rate} Hz is not usable") from error
    return buffer.getvalue()


def _to_float(waveform: Any) -> np.ndarray:
    """Convert samples to float32, nominally in [-1, 1]."""
    if hasattr(waveform, "is_floating_point"):  # a torch tensor
        waveform = waveform.detach().cpu()
        waveform = waveform.float() if waveform.is_floating_point() else waveform
    try:
        samples = np.asarray(waveform)
    except (TypeError, ValueError) as error:
        raise InputError(f"{KNOWN}; this is of type {type(waveform).__name__}.") from error
    if samples.ndim and samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinite samples are refused later, as in a file
            return samples.astype(np.float32)
    if samples.dtype not in INTEGERS:
        raise InputError(
            f"{KNOWN}; samples are floats in [-1, 1], or int8, uint8, int16 or int32, whose full "
            f"scale is known, and not of type {samples.dtype}."
        )
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
