"""Waveforms as programs hand them over, made into audio files, so that both are treated alike.

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
    "Taken are a path, a file's bytes, a waveform with its sampling_rate, (sampling_rate, "
    'waveform) and {"array": waveform, "sampling_rate": hertz}'
)


def as_audio_file(source: Any, sampling_rate: Any = None) -> bytes | str | os.PathLike:
    """A path or a file's bytes as they are; of a waveform the bytes of a WAV, as 32-bit float.

    Args:
        source: a path; a file's bytes; a waveform, shape (samples,), or with up to 8 channels,
            which come first or last, as an array, a tensor or a list; `(sampling_rate, waveform)`
            as gradio gives it; a value of an Audio column of datasets, decoded or not. Floats are
            nominally in [-1, 1]; int8, uint8, int16 and int32 are scaled by their type.
        sampling_rate: hertz; of a waveform.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        if sampling_rate is not None:
            raise InputError("A file says its sampling rate itself: leave sampling_rate out.")
        return bytes(source) if isinstance(source, bytearray | memoryview) else source
    if isinstance(source, tuple | list) and len(source) == 2 and isinstance(source[0], Real):
        rate, waveform = source
        if not isinstance(waveform, Real):  # and not a list of two samples
            return _with_rate(waveform, rate, sampling_rate)
    if isinstance(source, Mapping):
        if "array" in source:
            return _with_rate(source["array"], source.get("sampling_rate"), sampling_rate)
        if file := source.get("bytes") or source.get("path"):
            return as_audio_file(file, sampling_rate)
        raise InputError(
            f"{KNOWN}; this is a mapping with {', '.join(map(str, source)) or 'none'}."
        )
    if hasattr(source, "get_all_samples"):  # torchcodec's decoder, from an Audio column of datasets
        samples = source.get_all_samples()
        return _with_rate(samples.data, samples.sample_rate, sampling_rate)
    return _wav(source, sampling_rate)


def _with_rate(waveform: Any, rate: Any, sampling_rate: Any) -> bytes:
    if sampling_rate is not None and sampling_rate != rate:
        raise InputError(f"The waveform has {rate} Hz, and sampling_rate is {sampling_rate}.")
    return _wav(waveform, rate)


def _wav(waveform: Any, sampling_rate: Any) -> bytes:
    samples = _to_float(_to_array(waveform))
    rate = _checked(sampling_rate)
    if samples.ndim == 2 and samples.shape[0] <= MAX_CHANNELS < samples.shape[1]:
        samples = samples.T
    elif samples.ndim != 1 and not (
        samples.ndim == 2 and samples.shape[1] <= MAX_CHANNELS < samples.shape[0]
    ):
        raise InputError(
            "A waveform has the shape (samples,), (samples, channels) or (channels, samples), with "
            f"up to {MAX_CHANNELS} channels, not {samples.shape}."
        )
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"its sampling rate of {rate} Hz is not usable") from error
    return buffer.getvalue()


def _to_array(waveform: Any) -> np.ndarray:
    if hasattr(waveform, "is_floating_point"):  # a tensor of torch
        waveform = waveform.detach().cpu()
        waveform = waveform.float() if waveform.is_floating_point() else waveform
    try:
        return np.asarray(waveform)
    except (TypeError, ValueError) as error:
        raise InputError(f"{KNOWN}; this is of type {type(waveform).__name__}.") from error


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Float32, nominally in [-1, 1]."""
    kind = samples.dtype
    if samples.ndim == 0 or kind.kind in "OSUVMm":
        raise InputError(f"{KNOWN}; this is no array of numbers.")
    if kind.kind == "f":
        with np.errstate(over="ignore"):  # infinite samples are refused as those of a file are
            return samples.astype(np.float32)
    if kind == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if kind in (np.int8, np.int16, np.int32):
        return samples.astype(np.float32) / -float(np.iinfo(kind).min)
    raise InputError(
        "A waveform holds floats in [-1, 1], or int8, uint8, int16 or int32, whose full scale is "
        f"known, not {kind}."
    )


def _checked(sampling_rate: Any) -> int:
    if sampling_rate is None:
        raise InputError("A waveform needs its sampling_rate (hertz).")
    is_number = isinstance(sampling_rate, Real) and not isinstance(sampling_rate, bool)
    if not is_number or sampling_rate != sampling_rate // 1:
        shown = sampling_rate if is_number else type(sampling_rate).__name__
        raise InputError(f"sampling_rate is a whole number of hertz, not {shown}.")
    if not 0 < sampling_rate < 2**31:
        raise AudioError(f"its sampling rate of {sampling_rate} Hz is not usable")
    return int(sampling_rate)
