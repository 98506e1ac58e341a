"""scikit-learn on the feature tables of the Kaggle archive: an RBF SVM, and boosted trees.

Run by `python -m baselines`. A table has 57 features a track (`features_30_sec.csv`), or for each
tenth of a track (`features_3_sec.csv`): means and variances of 28 descriptors, and the tempo. They
come with the archive; for a track that the table lacks nothing is computed in their stead.
"""

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from baselines.comparison import Row, Score
from data_prep import splits
from data_prep.gtzan import GENRES
from music_genre.errors import InputError

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

WHOLE, SEGMENTS = "features_30_sec.csv", "features_3_sec.csv"
NOT_FEATURES = {"track_id", "filename", "length", "label"}  # the length in samples is no sound
N_FOLDS = 10
LEAK = "CSV, segments of 3 s at random: a leak, tracks are on both sides"


@dataclass
class Table:
    """A feature table; several rows of one track are its segments."""

    track_ids: np.ndarray  # str, shape (rows,)
    features: np.ndarray  # float64, shape (rows, features)
    genres: np.ndarray  # int, shape (rows,)

    def of(self, rows: np.ndarray) -> "Table":
        return Table(self.track_ids[rows], self.features[rows], self.genres[rows])


def read_table(path: Path) -> Table:
    """Read a table as `data_prep` leaves it in a prepared dataset, led by the column track_id.

    Raises:
        InputError: it isn't such a table, too small, or a feature is no finite number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("label") in GENRES]
    names = [name for name in rows[0] if name and name not in NOT_FEATURES] if rows else []
    if not names or "track_id" not in rows[0]:
        raise InputError(f"{path} is no feature table of GTZAN: prepare the archive again.")
    try:
        features = np.array([[float(row[name]) for name in names] for row in rows])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} has a cell that is no number: {error}.") from error
    if not np.isfinite(features).all():
        raise InputError(f"{path} has a cell that is not finite.")
    table = Table(
        np.array([row["track_id"] for row in rows]),
        features,
        np.array([GENRES.index(row["label"]) for row in rows]),
    )
    first = np.unique(table.track_ids, return_index=True)[1]
    n_of_genre = np.unique(table.genres[first], return_counts=True)[1]
    if len(n_of_genre) < 3 or n_of_genre.min() < N_FOLDS:
        raise InputError(f"{path} has fewer than 3 genres, or fewer than {N_FOLDS} tracks of one.")
    return table


def new_models() -> dict[str, "ClassifierMixin"]:
    """Untrained, with scikit-learn's settings but for C, which Kaggle's notebooks have at 10."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return {
        # break_ties: the answer is then the highest score, and scores can be averaged over segments
        "RBF SVM": make_pipeline(StandardScaler(), SVC(kernel="rbf", C=10, break_ties=True)),
        "boosted trees": HistGradientBoostingClassifier(random_state=0),
    }


def rows_of(folders: list[Path]) -> list[Row]:
    """Rows of the table from prepared datasets: on all tracks that the CSV has, and on theirs.

    Args:
        folders: each gives, by its manifest, the tracks that a model which hears them is tested on.
    """
    found: list[Row] = []
    for name, what in ((WHOLE, "CSV, 30 s"), (SEGMENTS, "CSV, mean over 3 s")):
        paths = [folder / name for folder in folders if (folder / name).is_file()]
        if not paths:
            found += [Row(model, f"{what}: not in the archive") for model in new_models()]
            continue
        table = read_table(paths[0])
        n_tracks = len(np.unique(table.track_ids))
        for model in new_models():
            on_all = _on_all(model, f"{what}, all {n_tracks:,} tracks", table)
            found.append(on_all)
            if name == WHOLE and "filtered" in on_all.scores:
                found.append(
                    _as_small(model, f"{what}, random as small as filtered", table, on_all)
                )
            found += _on_those_of(folders, model, what, table)
            if name == SEGMENTS:
                found.append(_leaking(model, table))
    return found


def _on_all(model: str, text: str, table: Table) -> Row:
    row = Row(model, text, {"random": score(model, table, _folds_of_tracks(table))})
    row.scores["random"].how = f"{N_FOLDS}-fold"
    filtered = splits.assign(dict.fromkeys(table.track_ids.tolist(), ""), "filtered")
    if set(filtered.values()) >= {"train", "test"}:
        row.scores["filtered"] = _held_out(model, table, filtered)
    return row


def _as_small(model: str, text: str, table: Table, on_all: Row) -> Row:
    """Ten folds train on twice what the filtered lists do: how much of the gap is that?

    Random parts of the filtered lists' sizes, of their tracks; the mean of as many draws as folds.
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    assignment = splits.assign(dict.fromkeys(table.track_ids.tolist(), ""), "filtered")
    known = np.flatnonzero(np.isin(table.track_ids, list(assignment)))
    sizes = {part: list(assignment.values()).count(part) for part in ("train", "test")}
    draws = StratifiedShuffleSplit(
        N_FOLDS, train_size=sizes["train"], test_size=sizes["test"], random_state=0
    ).split(known, table.genres[known])
    of_draws = score(model, table, [(known[train], known[test]) for train, test in draws])
    of_draws.n, of_draws.how = sizes["test"], f"mean of {N_FOLDS} draws"
    return Row(model, text, {"random": of_draws, "filtered": on_all.scores["filtered"]})


def _on_those_of(folders: list[Path], model: str, what: str, table: Table) -> Iterator[Row]:
    """A row for the same tracks and the same splits as the models that hear them."""
    scores, tracks, in_table = {}, set(), set(table.track_ids.tolist())
    for folder in folders:
        split, assignment = read_assignment(folder)
        assignment = {t: s for t, s in assignment.items() if t in in_table}
        if set(assignment.values()) >= {"train", "test"}:
            scores[split] = _held_out(model, table, assignment)
            tracks |= set(assignment)
    if scores:
        yield Row(model, f"{what}, the {len(tracks):,} tracks of the audio", scores=scores)


def _leaking(model: str, table: Table) -> Row:
    """What Kaggle's notebooks report: a random tenth of the segments, their tracks in train."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(table.genres))
    train, test = train_test_split(rows, test_size=0.1, stratify=table.genres, random_state=0)
    # Every segment counts by itself, as it does there.
    segments = Table(rows.astype(str), table.features, table.genres)
    return Row(model, LEAK, scores={"random": score(model, segments, [(train, test)])})


def read_assignment(folder: Path) -> tuple[str, dict[str, str]]:
    """The split of a prepared dataset, by its name, and track_id -> train, validation or test."""
    from data_prep.decoding import KEPT
    from data_prep.folder import read_preparation

    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["status"] == KEPT]
    return read_preparation(folder)["split"], {row["track_id"]: row["split"] for row in kept}


def _folds_of_tracks(table: Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ten folds, stratified; the segments of a track stay together."""
    from sklearn.model_selection import StratifiedKFold

    tracks, first = np.unique(table.track_ids, return_index=True)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    return [
        tuple(np.flatnonzero(np.isin(table.track_ids, tracks[part])) for part in parts)
        for parts in folds.split(tracks, table.genres[first])
    ]


def _held_out(model: str, table: Table, assignment: Mapping[str, str]) -> Score:
    split = np.array([assignment.get(track, "") for track in table.track_ids])
    return score(
        model, table, [(np.flatnonzero(split == "train"), np.flatnonzero(split == "test"))]
    )


def score(name: str, table: Table, parts: list[tuple[np.ndarray, np.ndarray]]) -> Score:
    """Train on the first rows of each part and answer for the tracks of the others.

    A track's answer is the highest mean of its segments' scores, as a clip's is over its windows.
    """
    from tqdm import tqdm

    n_right, n, seconds, size = 0, 0, 0.0, ""
    for train, test in tqdm(parts, desc=f"{name}, {len(table.genres):,} rows", leave=False):
        model, start = new_models()[name], time.monotonic()
        known, asked = table.of(train), table.of(test)
        model.fit(known.features, known.genres)
        seconds += time.monotonic() - start
        scores = model.decision_function(asked.features)
        tracks, first, track_of_row = np.unique(
            asked.track_ids, return_index=True, return_inverse=True
        )
        sums = np.zeros((len(tracks), scores.shape[1]))
        np.add.at(sums, track_of_row, scores)
        counts = np.bincount(track_of_row)[:, None]
        answers = model.classes_[(sums / counts).argmax(axis=1)]
        n_right += int((answers == asked.genres[first]).sum())
        n += len(tracks)
        size = describe_size(model)
    return Score([n_right / n], n, seconds / len(parts), size=size)


def describe_size(model: "ClassifierMixin") -> str:
    """What such a model has in place of parameters."""
    if hasattr(model, "steps"):
        return f"{model[-1].n_support_.sum():,} support vectors"
    return f"{model.n_iter_ * len(model.classes_):,} trees"
