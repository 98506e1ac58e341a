"""Genres of one's own from a folder to a model: training, report, card and predictions."""

import csv

from music_genre import GenreClassifier
from tests.data_prep.music import clip, song, write
from tests.training_runs import flags, read_report, train


def test_a_folder_per_genre_becomes_a_model(tmp_path, tiny_config, monkeypatch):
    """Two genres, one with another script and a bar in its name; each song counts once."""
    monkeypatch.chdir(tmp_path)
    names = ("演歌 | Enka", "Techno")
    files = {
        f"{genre}/Artist {i}/Album/{i}.wav": clip(100 * g + i)
        for g, genre in enumerate(names)
        for i in range(12)
    }
    files |= {f"Techno/Artist {i}/Album/song.flac": song(70, seed=i) for i in range(3)}
    source = write(tmp_path / "My Music", files)
    train(*flags(source, tiny_config, tmp_path / "run", num_train_epochs=1))

    report = read_report(tmp_path / "run")
    assert (report["dataset"], report["split"]) == ("My Music", "artist")
    assert report["leakage"]["artist_in_train"] == 0
    n = {name: report[name]["n"] for name in ("validation", "test")}
    with (tmp_path / "data" / "my-music-prepared" / "manifest.csv").open(newline="") as file:
        tracks = {row["track_id"]: row for row in csv.DictReader(file)}
    assert n == {s: sum(row["split"] == s for row in tracks.values()) for s in n}, "of tracks"
    songs = [row for row in tracks.values() if row["track_id"].endswith("song.flac")]
    assert [len(row["starts"].split()) for row in songs] == [2, 2, 2]
    with (tmp_path / "run" / "predictions.csv").open(newline="") as file:
        ids = [row["track_id"] for row in csv.DictReader(file)]
    assert len(ids) == len(set(ids)) == n["test"]

    card = (tmp_path / "run" / "README.md").read_text()
    assert "gtzan" not in card.lower()
    assert "into 2 genres: Techno, 演歌 \\| Enka." in card
    assert "| 演歌 \\| Enka | " in card
    classifier = GenreClassifier(tmp_path / "run")
    assert classifier.labels == ["Techno", "演歌 | Enka"]
    assert classifier(song(70)).genre in classifier.labels
