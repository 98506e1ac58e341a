"""Songs are cut to excerpts: where they lie, what is skipped, and that memory stays flat."""

import io
from unittest import mock

import numpy as np
import pytest
import soundfile
from datasets import Audio, load_from_disk

from data_prep import excerpts
from data_prep.excerpts import cut
from data_prep.options import Options
from music_genre.wav import num_samples, to_pcm16
from tests.data_prep.archives import manifest
from tests.data_prep.music import RATE, by_genre, clip, prepared, song, write

TWO_OF_TEN = Options(clips_per_track=2, clip_seconds=10.0)


def counted(seconds: float, kind: str = "FLAC") -> bytes:
    """A song whose level says where one is: it rises from 0.1 to 0.9."""
    n_samples = int(seconds * RATE)
    noise = np.sign(np.random.default_rng(0).standard_normal(n_samples))
    buffer = io.BytesIO()
    samples = to_pcm16(np.linspace(0.1, 0.9, n_samples) * noise)
    soundfile.write(buffer, samples, RATE, format=kind, subtype="PCM_16")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["FLAC", "WAV"])
def test_excerpts_are_spread_over_the_song(kind):
    found = cut(counted(100, kind), TWO_OF_TEN)
    assert [start for start, _ in found] == [20.0, 70.0], "the middles of the halves, less 5 s"
    for start, (waveform, _) in found:
        assert len(waveform) == 10 * 16_000
        level = 0.1 + 0.8 * (start + 5) / 100
        assert np.sqrt(np.mean(waveform**2)) == pytest.approx(level, rel=0.05)


def test_a_clip_of_up_to_a_minute_is_whole_and_a_short_song_gives_what_fits():
    ((start, (waveform, _)),) = cut(counted(60), Options())
    assert (start, len(waveform)) == (0.0, 60 * 16_000)
    assert len(cut(counted(62), Options(clips_per_track=9, clip_seconds=23))) == 2
    ((start, (waveform, _)),) = cut(counted(62), Options(clips_per_track=2, clip_seconds=100))
    assert (start, len(waveform)) == (0.0, 62 * 16_000)


def test_silence_is_skipped():
    """Each half has one place of five where less than half of an excerpt is silent."""
    data = song(100, silent=[(0, 35), (64, 86)])
    starts = [start for start, _ in cut(data, TWO_OF_TEN)]
    assert starts == [40.0, 50.0]
    starts = [start for start, _ in cut(song(100, silent=[(0, 50)]), TWO_OF_TEN)]
    assert starts == [70.0], "a silent half gives none"
    starts = [start for start, _ in cut(song(100, silent=[(0, 50)], level=0.002), TWO_OF_TEN)]
    assert starts == [20.0, 70.0], "soft, but not silent"


def test_a_header_that_promises_too_much_is_not_believed():
    data = counted(100, "WAV")
    found = cut(data[: len(data) * 7 // 10], TWO_OF_TEN)
    starts = [start for start, _ in found]
    assert starts == pytest.approx([12.5, 47.5], abs=0.1), "spread over the 70 s that are there"
    data = counted(100)  # as FLAC, whose length is believed
    starts = [start for start, _ in cut(data[: len(data) * 76 // 100], TWO_OF_TEN)]
    assert starts == [20.0, 60.0], "of the ten seconds from 70 on there are six"


def test_a_damaged_place_does_not_cost_the_song():
    data = bytearray(counted(100, "FLAC"))
    middle = len(data) * 7 // 10  # where the second excerpt would begin
    data[middle : middle + 2000] = bytes(2000)
    found = cut(bytes(data), TWO_OF_TEN)
    assert [len(waveform) for _, (waveform, _) in found] == [160_000] * 2


def test_of_a_long_song_only_the_excerpts_are_decoded(tmp_path, monkeypatch):
    """So memory and time do not grow with its length."""
    (tmp_path / "long.flac").write_bytes(counted(900))
    decode = mock.Mock(side_effect=excerpts.decode)
    monkeypatch.setattr(excerpts, "decode", decode)
    assert len(cut(tmp_path / "long.flac", TWO_OF_TEN)) == 2
    assert [call.args[3] for call in decode.call_args_list] == [10.0, 10.0]


def test_excerpts_of_a_song_are_rows_of_one_track(tmp_path):
    """One begins as another and is cut off, one is constant in its first half: both are kept."""
    flac = song(100, seed=5)
    files = by_genre(6) | {"Techno/song.flac": flac, "Techno/cut.flac": flac[: len(flac) * 4 // 5]}
    files["Techno/half.flac"] = song(100, seed=6, silent=[(0, 50)], level=0.1)
    done = prepared(
        write(tmp_path / "m", files), tmp_path / "out", clips_per_track=2, clip_seconds=10.0
    )
    assert (done["n_kept"], done["n_clips"]) == (15, 18)
    assert "15 tracks, as 18 clips" in (tmp_path / "out" / "README.md").read_text()
    rows = [
        (name, row)
        for name, split in load_from_disk(tmp_path / "out").items()
        for row in split.cast_column("audio", Audio(decode=False))
        if row["track_id"] == "Techno/song.flac"
    ]
    assert len({name for name, _ in rows}) == 1, "of one song in one split"
    assert [row["start"] for _, row in rows] == [20.0, 70.0]
    assert [num_samples(row["audio"]["bytes"]) for _, row in rows] == [160_000] * 2
    row = manifest(tmp_path / "out")["Techno/song.flac"]
    assert (row["starts"], row["seconds"], row["lost_seconds"]) == ("20 70", "20.0", "0.0")
    row = manifest(tmp_path / "out")["Techno/cut.flac"]
    seconds, lost = float(row["seconds"]), float(row["lost_seconds"])
    assert seconds + lost == pytest.approx(20) and lost > 0


def test_a_song_that_goes_away_is_left_out(tmp_path, monkeypatch):
    folder = write(tmp_path / "m", by_genre(3) | {"Techno/9.wav": clip(9)})

    def gone(source, *how):
        if str(source).endswith("9.wav"):
            source.unlink()
        return original(source, *how)

    original = excerpts.cut
    monkeypatch.setattr(excerpts, "cut", gone)
    prepared(folder, tmp_path / "out")
    status = manifest(tmp_path / "out")["Techno/9.wav"]["status"]
    assert status == "cannot be read (No such file or directory)"
