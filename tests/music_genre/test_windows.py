import numpy as np
import pytest

from music_genre import windows


@pytest.mark.parametrize(
    ("seconds", "n_windows"),
    [(0.3, 1), (5, 1), (5.4, 1), (5.6, 2), (29.9, 6), (30.4, 6), (30.6, 7)],
)
def test_a_clip_takes_the_fewest_windows_that_cover_it(seconds, n_windows):
    n_samples, window = round(seconds * 16_000), 5 * 16_000
    starts = windows.window_starts(n_samples, window)
    assert len(starts) == n_windows
    assert starts[0] == 0
    if n_windows > 1:
        assert starts[-1] + window == n_samples
        gaps = np.diff(starts) - window
        assert gaps.max() * (n_windows - 1) <= windows.MAX_GAP * window


def test_windows_are_views_of_one_length():
    waveform = np.arange(100)
    cuts = windows.cut(waveform, 30)
    assert [len(c) for c in cuts] == [30] * 4
    assert all(np.shares_memory(c, waveform) for c in cuts)


def test_a_short_waveform_is_looped():
    (window,) = windows.cut(np.arange(3), 7)
    assert window.tolist() == [0, 1, 2, 0, 1, 2, 0]
