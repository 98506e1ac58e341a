"""WAVs as they are embedded in a dataset."""

import numpy as np

from music_genre.wav import num_samples, read_wav, to_pcm16, wav_bytes

STEPS = np.array([-1.0, -0.5, 0.0, 0.4 / 32768, 0.6 / 32768, 0.5, 1.0, 1.5], np.float32)


def test_samples_are_rounded_and_clipped():
    assert to_pcm16(STEPS).tolist() == [-32768, -16384, 0, 0, 1, 16384, 32767, 32767]


def test_a_part_is_read():
    data = wav_bytes(np.arange(-100, 200, dtype=np.int16), 11_025)
    assert num_samples(data) == 300
    assert (read_wav(data, 90, 20) * 32768).tolist() == list(range(-10, 10))
    assert len(read_wav(data, 290)) == 10
