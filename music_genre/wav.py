"""Write the WAVs that data_prep embeds in a dataset (mono, 16-bit PCM), and read parts of them."""

import io

import numpy as np
import soundfile


def to_pcm16(waveform: np.ndarray) -> np.ndarray:
    """Convert float32 in [-1, 1] to int16, rounded and clipped at full scale."""
    scaled = waveform * 32768
    np.rint(scaled, out=scaled)  # in place: allocating arrays as long as a clip is slower
    return np.clip(scaled, -32768, 32767, out=scaled).astype("<i2")


def wav_bytes(pcm: np.ndarray, sampling_rate: int) -> bytes:
    """Return a WAV file as bytes. pcm: int16, shape (samples,); sampling_rate: hertz."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sampling_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def read_wav(data: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
    """Return samples `start` to `start + frames` of a WAV: float32, shape (frames,).

    Only this part is copied, so a random crop costs the same for clips of any length.
    """
    return soundfile.read(io.BytesIO(data), frames=frames, start=start, dtype="float32")[0]


def num_samples(data: bytes) -> int:
    """Return the length of a WAV in samples."""
    return soundfile.info(io.BytesIO(data)).frames
