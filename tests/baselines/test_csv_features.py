"""The CSV rows of the comparison: nothing of a track may cross a split, and the real figures."""

import csv
import json
import zipfile

import numpy as np
import pytest

from baselines import csv_features
from baselines.csv_features import LEAK, SEGMENTS, WHOLE, evaluate, feature_rows, read_table
from data_prep.gtzan import GENRES, filtered_split
from data_prep.prepared import PREPARATION_FILE
from data_prep.tables import add_track_ids
from music_genre.errors import InputError

HEAD = ["filename", "length", "a_mean", "b_mean", "c_mean", "d_mean", "label"]


def kaggle_csv(tracks: list[str], segments: int = 0) -> bytes:
    """Features that are a track's own and tell nothing of its genre; segments differ a little."""
    rng = np.random.default_rng(0)
    lines = [HEAD]
    for track in tracks:
        own = rng.normal(size=4)
        for i in range(segments or 1):
            name = f"{track}.{i}.wav" if segments else f"{track}.wav"
            cells = own + rng.normal(0, 0.01, 4)
            lines.append([name, 66149, *cells.round(6), track.split(".")[0]])
    return "\n".join(",".join(map(str, line)) for line in lines).encode()


def dataset_folder(folder, tables: dict[str, bytes], assignment: dict[str, str], split="random"):
    """The files of a prepared dataset that the CSV rows are made from."""
    folder.mkdir()
    for name, data in tables.items():
        is_table = data.startswith(b"filename")
        (folder / name).write_text(add_track_ids(data) if is_table else data.decode())
    (folder / PREPARATION_FILE).write_text(json.dumps({"split": split}))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["track_id", "split", "status"])
        writer.writerows([track, part, "kept"] for track, part in assignment.items())
        writer.writerow(["rock.00099", "", "digital silence"])
    return folder


@pytest.fixture
def tracks() -> list[str]:
    return [f"{genre}.{i:05d}" for genre in GENRES[:4] for i in range(0, 100, 5)]


def test_a_table_has_the_sound_but_not_the_length(tmp_path, tracks):
    folder = dataset_folder(tmp_path / "d", {SEGMENTS: kaggle_csv(tracks, segments=3)}, {})
    table = read_table(folder / SEGMENTS)
    assert table.features.shape == (3 * len(tracks), 4)
    assert table.track_ids[:4].tolist() == [tracks[0]] * 3 + [tracks[1]]
    assert [GENRES[g] for g in table.genres] == [track.split(".")[0] for track in table.track_ids]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(b"a,b\n1,2\n", "not a feature table"), (b"", "not a feature table")]
    + [(kaggle_csv([f"{genre}.00000" for genre in GENRES]), "fewer than 10 tracks")]
    + [
        (",".join(HEAD).encode() + f"\nblues.00000.wav,1,{cell},0,0,0,blues\n".encode(), reason)
        for cell, reason in (
            ("x", "finite number"),
            ("", "finite number"),
            ("nan", "finite number"),
        )
    ],
)
def test_a_broken_table_is_named(tmp_path, bad, reason):
    folder = dataset_folder(tmp_path / "d", {WHOLE: bad}, {})
    with pytest.raises(InputError, match=f"{WHOLE}.*{reason}"):
        read_table(folder / WHOLE)


def test_a_cell_of_any_size_is_refused_in_a_short_sentence(tmp_path):
    cell = "x" * 200_000  # the csv module refuses cells over 128 KB
    (tmp_path / WHOLE).write_text(f"track_id,a_mean,label\nblues.00000,{cell},blues\n")
    with pytest.raises(InputError, match="finite number") as caught:
        read_table(tmp_path / WHOLE)
    assert len(str(caught.value)) < 300


def test_only_the_row_that_says_so_leaks(tmp_path, tracks, monkeypatch):
    """Segments are alike within a track and say nothing of the genre: who knows it, has cheated."""
    monkeypatch.setattr(csv_features, "N_FOLDS", 2)
    half = {track: "train" if i % 2 else "test" for i, track in enumerate(tracks[:-4])}
    folder = dataset_folder(tmp_path / "d", {SEGMENTS: kaggle_csv(tracks, segments=10)}, half)
    rows = [row for row in feature_rows([folder]) if row.results]
    leaking = [row for row in rows if row.input == LEAK]
    assert [row.model for row in leaking] == ["RBF SVM", "boosted trees"]
    assert all(row.results["random"].accuracy > 0.9 for row in leaking)
    assert all(row.results["random"].n == len(tracks) for row in leaking)  # a tenth of the segments
    honest = [row for row in rows if row.input != LEAK]
    assert len(honest) == 4
    for row in honest:  # four genres: 0.25 by chance
        assert all(one.accuracy < 0.55 for one in row.results.values()), row
    on_all, on_those = (row for row in honest if row.model == "RBF SVM")
    filtered = [track for track in tracks if filtered_split().get(track) == "test"]
    assert (on_all.results["random"].n, on_all.results["filtered"].n) == (
        len(tracks),
        len(filtered),
    )
    assert on_those.input.endswith(f"the {len(half)} tracks of the audio")
    assert on_those.results["random"].n == sum(part == "test" for part in half.values())


def test_tracks_that_the_table_lacks_are_not_invented(tmp_path, tracks, monkeypatch):
    monkeypatch.setattr(csv_features, "N_FOLDS", 2)
    lacking = {track: "test" for track in tracks[::7]}
    audio = {track: "train" for track in tracks} | lacking
    table = kaggle_csv([track for track in tracks if track not in lacking or track == tracks[0]])
    folder = dataset_folder(tmp_path / "d", {WHOLE: table}, audio)
    of_audio = next(row for row in feature_rows([folder]) if "of the audio" in row.input)
    assert of_audio.results["random"].n == 1


def test_an_archive_without_tables_gives_rows_that_were_not_run(tmp_path):
    rows = feature_rows([dataset_folder(tmp_path / "d", {}, {})])
    assert len(rows) == 4
    assert not any(row.results for row in rows)
    assert all("not in the archive" in row.input for row in rows)


def test_the_real_table_of_all_tracks(tmp_path, real_archive):
    """The figures of the README; trees take a minute and are measured, not tested."""
    with zipfile.ZipFile(real_archive) as file:
        data = file.read(next(name for name in file.namelist() if name.endswith(WHOLE)))
    (tmp_path / WHOLE).write_text(add_track_ids(data))
    table = read_table(tmp_path / WHOLE)
    assert table.features.shape == (1000, 57)
    row = csv_features.on_all_tracks("RBF SVM", "", table)
    assert row.results["random"].n == 1000
    assert row.results["filtered"].n == 290
    assert row.results["random"].accuracy == pytest.approx(0.743, abs=0.015)
    assert row.results["filtered"].accuracy == pytest.approx(0.528, abs=0.01)
    small = csv_features.at_the_size_of_filtered("RBF SVM", "", table, row)
    assert small.results["random"].n == 290
    assert small.results["random"].accuracy == pytest.approx(0.69, abs=0.02)


def test_a_tracks_answer_is_the_mean_over_its_segments():
    """One of three segments lies with another genre; the other two outweigh it."""
    centres, rng = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 3.0]]), np.random.default_rng(0)
    genres = np.repeat([0, 1, 2], 10)
    known = centres[genres] + rng.normal(0, 0.3, (30, 2))
    asked = centres[[1, 1, 0]]

    def accuracy(names: list[str]) -> float:
        table = csv_features.FeatureTable(
            np.array([f"known{i}" for i in range(30)] + names),
            np.concatenate([known, asked]),
            np.concatenate([genres, [1, 1, 1]]),
        )
        return evaluate("RBF SVM", table, [(np.arange(30), np.arange(30, 33))]).accuracy

    assert accuracy(["a", "b", "c"]) == pytest.approx(2 / 3)
    assert accuracy(["a", "a", "a"]) == 1
