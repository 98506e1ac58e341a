"""The pictures with few and with many genres: what is shown, and what a click away."""

import re
from urllib.request import urlopen

import numpy as np
import pytest
from matplotlib import image

from music_genre.classifier import Prediction, WindowPrediction
from music_genre.demo import pictures


def genres(n: int) -> dict[str, float]:
    """Probabilities that sum to 1, the last genre the likeliest."""
    shares = np.arange(1, n + 1) / np.arange(1, n + 1).sum()
    return {f"genre {i:03d}": share for i, share in enumerate(shares.tolist())}


def file_picture(probabilities: dict[str, float]) -> str:
    cells = [WindowPrediction(start, start + 5, probabilities) for start in (0.0, 4.0, 10.0)]
    best = max(probabilities, key=probabilities.get)
    noise = np.random.default_rng(0).standard_normal(15 * 16_000).astype(np.float32)
    return pictures.file_picture(Prediction(best, probabilities, cells), noise, 16_000)


@pytest.mark.parametrize("n", [2, 10])
def test_few_genres_are_all_shown(n):
    for html in (file_picture(genres(n)), pictures.empty_picture(list(genres(n)))):
        assert "How likely each genre is" in html
        assert html.count("<li ") == n
        assert html.count('class="rows"') == 1
        assert len(re.findall(r"genre \d{3}</span>", html)) == 2 * n
    html = file_picture(genres(10))
    assert html.count("<rect") == 3 * 9, "one genre has less than 2 %"
    assert html.count("--genre-top") == 3, "one of each window"


def test_each_window_is_drawn_from_its_start_to_the_start_of_the_next():
    cells = re.findall(r'x="([\d.]+)" y="1.06" width="([\d.]+)"', file_picture(genres(2)))
    assert cells == [("0.00", "4.00"), ("4.00", "6.00"), ("10.00", "5.00")]
    assert "0:00 to 0:15 genre 001" in file_picture(genres(2))


@pytest.mark.parametrize("n", [11, 200])
def test_of_many_genres_the_likeliest_ten_are_shown(n):
    html = file_picture(genres(n))
    assert f"How likely the 10 likeliest of {n} genres are" in html
    bars, plots = html.split("</ul>")
    assert re.findall(r"genre (\d{3})</span>", bars) == [f"{n - 1 - i:03d}" for i in range(10)]
    assert len(re.findall(r"genre \d{3}</span>", plots)) == 10
    assert "height:14.0rem" in plots, "ten rows over time"
    assert html.count('class="top"') == 2, "in the bars and over time"


def test_live_rows_of_many_genres_are_ten_that_do_not_reorder():
    probabilities = genres(40)
    times = [(0.0, 9.0), (10.0, 12.5), (40.0, 41.0)]
    history = [(start, end, probabilities) for start, end in times]
    html = pictures.live_picture(probabilities, history, 41.0)
    names = re.findall(r"genre (\d{3})</span>", html)
    assert names == 2 * [f"{i:03d}" for i in range(30, 40)]
    cells = re.findall(r'x="([\d.-]+)" y="9.06" width="([\d.-]+)"', html)
    assert cells == [("0.00", "1.50"), ("29.00", "1.00")] and 'viewBox="0 0 30.00 10"' in html


def test_a_tone_is_drawn_when_and_where_its_pitch_is_written():
    time = np.arange(2 * 16_000) / 16_000
    low_then_high = np.sin(2 * np.pi * np.where(time < 1, 300, 3000) * time)
    decibels = pictures.mel_decibels(low_then_high, 16_000)
    assert decibels.min() >= pictures.FLOOR and decibels.max() == 0
    picture = image.imread(urlopen(pictures._png(low_then_high, 16_000))).sum(-1)
    percent = 100 * (picture.argmax(axis=0) + 0.5) / pictures.N_MELS  # from the top
    assert percent[[0, -1]] == pytest.approx([86, 34], abs=1)
    minute = pictures.mel_decibels(np.resize(low_then_high, 60 * 16_000), 16_000)
    assert minute.shape == (pictures.N_MELS, pictures.COLUMNS)


@pytest.mark.parametrize(
    ("end", "marks"),
    [(12, ["0 s", "5 s", "12 s"]), (59.6, ["0 s", "15 s", "30 s", "45 s", "60 s"]),
     (60.7, ["0:00", "0:30", "1:01"]), (900, ["0:00", "5:00", "10:00", "15:00"])],
)  # fmt: skip
def test_times_are_round_and_leave_room_for_the_end(end, marks):
    below = pictures.spectrogram(None, 0, end).split('class="across"')[1]
    assert re.findall(r'\)">([^<]+)<', below) == marks


def test_a_genre_that_wins_a_window_is_said_though_its_row_is_not_shown():
    mostly, once = genres(40), dict.fromkeys(genres(40), 0.0) | {"genre 000": 1.0}
    cells = [(float(i), i + 1.0, once if i == 50 else mostly) for i in range(100)]
    html = pictures.timeline(cells, list(mostly), 100.0)
    assert "0:50 to 0:51 genre 000" in html


def test_names_are_escaped_and_long_ones_do_not_push_the_bars_away():
    name = "<b>" + "very " * 20
    html = pictures.empty_picture([name, "a"])
    assert "<b>very" not in html
    assert "--names:18.0rem" in html
    assert "--names:5.4rem" in pictures.empty_picture(["a", "b"])
