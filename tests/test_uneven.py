"""What uneven.py promises to the tests that use it; run: pytest tests/test_uneven.py"""

from collections import Counter

import numpy as np
from datasets import Audio, load_from_disk

from music_genre import GenreClassifier
from music_genre.evaluation.one_pass import classify_in_one_pass
from music_genre.wav import read_wav
from tests.uneven import GTZAN_TRACKS, GTZAN_TWINS, LABELS, TWIN, TWIN_OF, run_data_prep

SHORT = 2 * 16_000  # samples


def test_genres_labels_artists_and_clips_are_unequal(uneven):
    dataset = load_from_disk(uneven).cast_column("audio", Audio(decode=False))
    assert tuple(dataset["train"].features["genre"].names) == LABELS
    assert list(LABELS) not in (sorted(LABELS), sorted(LABELS, reverse=True))
    assert all(len(split) % 2 for split in dataset.values())
    tracks = {
        track_id: (name, LABELS[genre], artist)
        for name, split in dataset.items()
        for track_id, genre, artist in zip(
            split["track_id"], split["genre"], split["artist"], strict=True
        )
    }
    assert sorted(Counter(genre for _, genre, _ in tracks.values()).values()) == [3, 9, 11]
    artists = {genre: {a for _, g, a in tracks.values() if g == genre} for genre in LABELS}
    assert artists["ambient"] < artists["techno"]
    split_artists = {name: {a for n, _, a in tracks.values() if n == name} for name in dataset}
    assert "Cy" in split_artists["test"] & split_artists["validation"] - split_artists["train"]
    assert len(set(Counter(dataset["test"]["track_id"]).values())) > 1


def test_a_twin_is_left_out(uneven, uneven_source):
    files = [uneven_source / f"{name}.wav" for name in (TWIN.name, TWIN_OF)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert f"{TWIN.name}.wav" in (uneven / "manifest.csv").read_text()
    assert f"{TWIN.name}.wav" not in load_from_disk(uneven)["train"]["track_id"]


def test_the_net_hears_how_a_track_is_given(uneven, uneven_net):
    classifier = GenreClassifier(uneven_net, precision="fp32")
    assert tuple(classifier.labels) == LABELS
    clips = load_from_disk(uneven)["test"].cast_column("audio", Audio(decode=False))
    answers = []
    for clip in clips:
        waveform = read_wav(clip["audio"]["bytes"])
        first = (len(waveform) - SHORT) // 2
        whole = classifier(waveform, 16_000)
        short = classifier(waveform[first : first + SHORT], 16_000)
        one_pass = classify_in_one_pass(classifier.model, classifier.feature_extractor, waveform)
        answers.append((whole.genre, short.genre, LABELS[int(np.argmax(one_pass))]))
    wholes, shorts, one_passes = zip(*answers, strict=True)
    assert len(set(wholes)) == 3
    assert wholes != shorts != one_passes != wholes


def test_gtzan_has_six_genres(uneven_gtzan, tmp_path):
    folder = tmp_path / "gtzan"
    run_data_prep(uneven_gtzan, "--output_dir", folder, "--split", "artist")
    dataset = load_from_disk(folder)
    n_tracks = sum(map(len, GTZAN_TRACKS.values()))
    assert n_tracks % 2 and sum(map(len, dataset.values())) == n_tracks
    split_of = {track_id: name for name in dataset for track_id in dataset[name]["track_id"]}
    assert len({split_of[track_id] for track_id in GTZAN_TWINS}) == 1
