"""The WAVs that data_prep embeds in a dataset: mono, 16-bit PCM; written, and read in parts."""

import io

import numpy as np
import soundfile


def to_pcm16(waveform: np.ndarray) -> np.ndarray:
    """Float32 in [-1, 1] to int16, rounded, clipped at full scale."""
    scaled = waveform * 32768
    np.rint(scaled, out=scaled)  # in place: new arrays of a clip's size cost more than the sums
    return np.clip(scaled, -32768, 32767, out=scaled).astype("<i2")


def wav_bytes(pcm: np.ndarray, sampling_rate: int) -> bytes:
    """A WAV file in memory. pcm: int16, shape (samples,); sampling_rate: hertz."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sampling_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def read_wav(data: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
    """Samples `start` to `start + frames` of a WAV; float32, shape (frames,).

    Only the asked part is copied: a random crop costs the same whatever the clip's length.
    """
    return soundfile.read(io.BytesIO(data), frames=frames, start=start, dtype="float32")[0]


def num_samples(data: bytes) -> int:
    """Length of a WAV in samples."""
    return soundfile.info(io.BytesIO(data)).frames
