"""Read WAVs of 16-bit numbers, which nearly all clips of GTZAN are, without a native decoder.

So none can crash on them. Decoder processes would take a third longer.
"""

import io
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from music_genre.audio_files import BLOCK, AudioFile


class NotPcm16Error(ValueError):
    """It may be another kind of audio, for a decoder."""


@contextmanager
def open_pcm16(source: Path | bytes) -> Iterator[AudioFile]:
    """What `audio_files.open_audio` does, for these alone.

    Raises:
        NotPcm16Error: it is no such WAV, or holds nothing.
        AudioError: as `open_audio`.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        try:
            wav = wave.Wave_read(file)
        except (wave.Error, EOFError, ValueError, RuntimeError) as error:
            raise NotPcm16Error from error
        if wav.getsampwidth() != 2 or not wav.getnframes():
            raise NotPcm16Error
        yield _Pcm16(wav)


class _Pcm16(AudioFile):
    def __init__(self, wav: wave.Wave_read) -> None:
        duration = wav.getnframes() / wav.getframerate() if wav.getframerate() else None
        super().__init__(wav.getframerate(), wav.getnchannels(), duration)
        self._wav = wav

    def _read(self, start: float, n_samples: int) -> Iterator[np.ndarray]:
        self._wav.setpos(min(int(start * self.sampling_rate), self._wav.getnframes()))
        n_channels = self._wav.getnchannels()
        while n_samples > 0 and (data := self._wav.readframes(min(BLOCK, n_samples))):
            n = len(data) // (2 * n_channels)  # a file that is cut may end within a sample
            block = np.frombuffer(data, "<i2", n * n_channels).reshape(n, n_channels)
            block = block.astype(np.float32) / np.float32(32768)
            yield block.mean(axis=1) if n_channels > 1 else block[:, 0]
            n_samples -= n
