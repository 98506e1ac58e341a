"""Crops and targets of training, on the small synthesised dataset."""

import numpy as np
import pytest
from datasets import Audio, ClassLabel, Dataset, Features, Value, load_from_disk

from music_genre.training.clips import CropDataset, TrackDataset, WindowDataset
from music_genre.wav import to_pcm16, wav_bytes

WINDOW = 16_000


@pytest.fixture(scope="module")
def clips(prepared):
    return load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))


def test_an_epoch_is_once_through_the_audio(clips):
    assert len(CropDataset(clips, WINDOW, seed=0)) == 2 * len(clips)  # clips of 2 s
    assert len(CropDataset(clips, 5 * WINDOW, seed=0)) == len(clips)
    uneven = tones(seconds=(1, 5)).select([0] * 60 + [1] * 60)
    assert len(CropDataset(uneven, WINDOW, seed=0)) == 120 * 3


def test_a_crop_depends_on_seed_epoch_and_number_alone(clips):
    everything = (0.4, True, True)
    one, same = (CropDataset(clips, WINDOW, 3, *everything) for _ in range(2))
    one.epoch = same.epoch = 2
    [one[i] for i in range(5)]  # whatever was asked for before
    for key, value in one[7].items():
        np.testing.assert_array_equal(value, same[7][key])
    for change in ({"epoch": 1}, {"seed": 4}):
        other = CropDataset(clips, WINDOW, change.get("seed", 3), *everything)
        other.epoch = change.get("epoch", 2)
        assert not np.array_equal(other[7]["samples"], one[7]["samples"])


def tones(seconds: tuple[int, int] = (2, 2)) -> Dataset:
    """Two genres of one clip each: 200 Hz and 3,000 Hz, equally loud."""
    times = [np.arange(length * WINDOW) / WINDOW for length in seconds]
    waves = [0.5 * np.sin(2 * np.pi * hz * t) for hz, t in zip((200, 3000), times, strict=True)]
    features = Features(audio={"bytes": Value("binary")}, genre=ClassLabel(names=["low", "high"]))
    audio_column = [{"bytes": wav_bytes(to_pcm16(wave), WINDOW)} for wave in waves]
    return Dataset.from_dict({"audio": audio_column, "genre": [0, 1]}, features=features)


def test_mixup_mixes_the_audio_in_the_shares_of_the_target():
    """Of each crop, the amplitudes of the two tones; its own genre may have either share."""
    crops = CropDataset(tones(), WINDOW, 0, mixup=0.8)
    shares = []
    for i in range(40):
        spectrum = np.abs(np.fft.rfft(crops[i]["samples"]))[[200, 3000]]
        np.testing.assert_allclose(crops[i]["labels"], spectrum / spectrum.sum(), atol=0.01)
        shares.append(crops[i]["labels"][i % 2])
    assert min(shares) < 0.4
    assert max(s for s in shares if s < 0.99) > 0.6


def test_clips_of_a_track_take_turns_in_crops_for_the_linear_probe():
    crops = CropDataset(tones(), WINDOW, 0, speed_perturbation=True).augmented([0, 1], 3)
    assert [np.abs(np.fft.rfft(crop)).argmax() > 1000 for crop in crops] == [False, True, False]


def test_genres_take_turns_whatever_number_of_clips_they_have(clips):
    by_genre = np.array(clips["genre"])
    uneven = clips.select([*np.flatnonzero(by_genre == 0)[:1], *np.flatnonzero(by_genre == 1)[:4]])
    crops = CropDataset(uneven, WINDOW, 0)  # 10 an epoch
    targets = [int(crops[i]["labels"].argmax()) for i in range(10)]
    assert targets == 5 * [0, 1]
    used = {crops.clip_in_turn(n)["audio"]["bytes"] for n in range(10)}
    assert used == {clip["bytes"] for clip in uneven["audio"]}


def test_turns_go_on_from_one_epoch_to_the_next(uneven):
    """11 crops an epoch and three genres: the next epoch starts with the third, and other clips."""
    clips = load_from_disk(uneven)["train"].cast_column("audio", Audio(decode=False))
    crops = CropDataset(clips, 100 * WINDOW, 0)
    assert len(crops) % 3, "otherwise this shows nothing"
    labels = []
    for crops.epoch in range(3):
        labels += [int(crops[i]["labels"].argmax()) for i in range(len(crops))]
    assert labels == [n % 3 for n in range(len(labels))]


def test_the_middle_is_the_middle(clips):
    whole = np.concatenate(TrackDataset(clips, 1)[0])
    (middle,) = TrackDataset(clips, 8_000).middle(0, 0.5, WINDOW)
    start = (len(whole) - 8_000) // 2
    np.testing.assert_array_equal(middle, whole[start : start + 8_000])


def test_excerpts_of_a_song_are_one_track(uneven):
    """Rows of one track_id; the middle of a song is in its middle excerpt."""
    clips = load_from_disk(uneven)["test"].cast_column("audio", Audio(decode=False))
    tracks = TrackDataset(clips, WINDOW)
    assert (len(clips), len(tracks)) == (11, 7)
    ids = tracks.track_values("track_id")
    assert len(set(ids)) == 7
    song = next(i for i, rows in enumerate(tracks.tracks) if len(rows) == 3)
    apart = [TrackDataset(clips.select([row]), WINDOW) for row in tracks.tracks[song]]
    expected = [window for one in apart for window in one[0]]
    np.testing.assert_array_equal(tracks[song], expected)
    np.testing.assert_array_equal(tracks.middle(song, 0.5, WINDOW), apart[1].middle(0, 0.5, WINDOW))


def test_rows_of_validation_are_the_windows_of_tracks(uneven):
    """What the Trainer averages over a track is what `GenreClassifier` averages."""
    clips = load_from_disk(uneven)["validation"].cast_column("audio", Audio(decode=False))
    tracks = TrackDataset(clips, 40_000)  # some clips are longer, and one is shorter
    rows = [
        row for row in map(WindowDataset(tracks).__getitem__, range(len(WindowDataset(tracks))))
    ]
    expected = [(window, tracks.labels[i], i) for i in range(len(tracks)) for window in tracks[i]]
    assert len(rows) == len(expected)
    for row, (window, label, track) in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(row["samples"], window)
        assert row["labels"].tolist() == [label, track]
