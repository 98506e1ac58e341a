"""scikit-learn on the feature tables of the Kaggle archive: an RBF SVM, and boosted trees.

Run by `python -m baselines`. A table has 57 features per track (`features_30_sec.csv`), or per
tenth of a track (`features_3_sec.csv`): means and variances of 28 descriptors, and the tempo. They
come with the archive. Tracks that a table lacks are left out; no features are computed here.
"""

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from baselines.comparison import Row, TestResult
from data_prep import splits
from data_prep.gtzan import GENRES, artists_and_titles, as_tracks
from data_prep.prepared import read_preparation
from data_prep.track import KEPT
from music_genre.errors import InputError
from music_genre.evaluation.intervals import artist_groups, mean_interval

WHOLE, SEGMENTS = "features_30_sec.csv", "features_3_sec.csv"
NOT_FEATURES = {"track_id", "filename", "length", "label"}  # the length tells nothing of the music
N_FOLDS = 10
LEAK = "CSV, segments of 3 s at random: a leak, tracks are in train and in test"
Parts = list[tuple[np.ndarray, np.ndarray]]  # rows to train on, rows to test on


@dataclass
class FeatureTable:
    """Several rows of one track are its segments."""

    track_ids: np.ndarray  # str, shape (rows,)
    features: np.ndarray  # float64, shape (rows, features)
    genres: np.ndarray  # int, shape (rows,)

    def __getitem__(self, rows: np.ndarray) -> "FeatureTable":
        return FeatureTable(self.track_ids[rows], self.features[rows], self.genres[rows])


def read_table(path: Path) -> FeatureTable:
    """Read a table as `data_prep` leaves it in a prepared dataset, led by the column track_id.

    Raises:
        InputError: it is not such a table, is too small, or a feature is not a finite number.
    """
    try:
        frame = pd.read_csv(path)
        frame = frame[frame["label"].isin(GENRES)]
        track_ids = frame["track_id"].to_numpy(str)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not a feature table of GTZAN: prepare the archive again."
        ) from error
    try:
        features = frame.drop(columns=NOT_FEATURES & {*frame}).to_numpy(float)
    except ValueError as error:
        reason = str(error)[:80]  # it repeats the cell, which may be of any size
        raise InputError(f"{path} has a cell that is not a finite number: {reason}.") from error
    if not np.isfinite(features).all():
        raise InputError(f"{path} has a cell that is not a finite number.")
    table = FeatureTable(track_ids, features, frame["label"].map(GENRES.index).to_numpy(int))
    first = np.unique(table.track_ids, return_index=True)[1]
    n_of_genre = np.unique(table.genres[first], return_counts=True)[1]
    if len(n_of_genre) < 3 or n_of_genre.min() < N_FOLDS:
        raise InputError(
            f"{path} has fewer than 3 genres, or fewer than {N_FOLDS} tracks of a genre."
        )
    return table


def new_models() -> dict[str, ClassifierMixin]:
    """Untrained, with scikit-learn's settings except C, which is 10 in Kaggle's notebooks."""
    return {
        # break_ties: the prediction is the highest score, so scores can be averaged over segments
        "RBF SVM": make_pipeline(StandardScaler(), SVC(kernel="rbf", C=10, break_ties=True)),
        "boosted trees": HistGradientBoostingClassifier(random_state=0),
    }


# --- the rows of the comparison -------------------------------------------------------------


def feature_rows(folders: list[Path]) -> list[Row]:
    """Train and test every model on all tracks of the tables, and on those of prepared datasets.

    Args:
        folders: prepared datasets, which hold the tables; their manifests give the tracks that
            models of audio are trained and tested on.
    """
    rows: list[Row] = []
    for name, what in ((WHOLE, "CSV, 30 s"), (SEGMENTS, "CSV, mean over 3 s")):
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            rows += [Row(model, f"{what}: not in the archive") for model in new_models()]
            continue
        table = read_table(path)
        for model in new_models():
            on_all = on_all_tracks(model, what, table)
            rows.append(on_all)
            if name == WHOLE and "filtered" in on_all.results:
                rows.append(at_the_size_of_filtered(model, what, table, on_all))
            rows += _on_tracks_of(folders, model, what, table)
            if name == SEGMENTS:
                rows.append(_leaking(model, table))
    return rows


def on_all_tracks(model: str, what: str, table: FeatureTable) -> Row:
    """Ten random folds of tracks, and the filtered lists."""
    random = evaluate(model, table, _folds_of_tracks(table))
    random.how = f"{N_FOLDS}-fold"
    row = Row(model, f"{what}, all {len(np.unique(table.track_ids)):,} tracks", {"random": random})
    filtered = splits.assign(as_tracks(dict.fromkeys(table.track_ids.tolist(), "")), "filtered")
    if set(filtered.values()) >= {"train", "test"}:
        row.results["filtered"] = _held_out(model, table, filtered)
    return row


def at_the_size_of_filtered(model: str, what: str, table: FeatureTable, on_all: Row) -> Row:
    """Ten folds train on twice as many tracks as the filtered lists: how much of the gap is that?

    Random parts of the filtered lists' sizes, of their tracks; the mean of as many draws as folds.
    """
    assignment = splits.assign(as_tracks(dict.fromkeys(table.track_ids.tolist(), "")), "filtered")
    known = np.flatnonzero(np.isin(table.track_ids, list(assignment)))
    sizes = {part: list(assignment.values()).count(part) for part in ("train", "test")}
    draws = StratifiedShuffleSplit(
        N_FOLDS, train_size=sizes["train"], test_size=sizes["test"], random_state=0
    ).split(known, table.genres[known])
    random = evaluate(model, table, [(known[train], known[test]) for train, test in draws])
    random.n, random.how = sizes["test"], f"mean of {N_FOLDS} draws"
    results = {"random": random, "filtered": on_all.results["filtered"]}
    return Row(model, f"{what}, random as small as filtered", results)


def _on_tracks_of(folders: list[Path], model: str, what: str, table: FeatureTable) -> Iterator[Row]:
    """A row on the tracks and the splits that models of audio are trained and tested on."""
    results, tracks, in_table = {}, set(), set(table.track_ids.tolist())
    for folder in folders:
        split, assignment = read_assignment(folder)
        assignment = {t: s for t, s in assignment.items() if t in in_table}
        if set(assignment.values()) >= {"train", "test"}:
            results[split] = _held_out(model, table, assignment)
            tracks |= set(assignment)
    if results:
        yield Row(model, f"{what}, the {len(tracks):,} tracks of the audio", results)


def _leaking(model: str, table: FeatureTable) -> Row:
    """What Kaggle's notebooks report: a random tenth of the segments, their tracks in train."""
    rows = np.arange(len(table.genres))
    train, test = train_test_split(rows, test_size=0.1, stratify=table.genres, random_state=0)
    # Every segment counts by itself, as it does there.
    segments = FeatureTable(rows.astype(str), table.features, table.genres)
    return Row(model, LEAK, {"random": evaluate(model, segments, [(train, test)])})


def read_assignment(folder: Path) -> tuple[str, dict[str, str]]:
    """The split of a prepared dataset, by its name, and track_id -> train, validation or test."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["status"] == KEPT]
    return read_preparation(folder)["split"], {row["track_id"]: row["split"] for row in kept}


# --- training and testing -------------------------------------------------------------------


def _folds_of_tracks(table: FeatureTable) -> Parts:
    """Ten folds, stratified; the segments of a track stay together."""
    tracks, first = np.unique(table.track_ids, return_index=True)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    return [
        tuple(np.flatnonzero(np.isin(table.track_ids, tracks[part])) for part in parts)
        for parts in folds.split(tracks, table.genres[first])
    ]


def _held_out(model: str, table: FeatureTable, assignment: Mapping[str, str]) -> TestResult:
    split = np.array([assignment.get(track, "") for track in table.track_ids])
    return evaluate(
        model, table, [(np.flatnonzero(split == "train"), np.flatnonzero(split == "test"))]
    )


def evaluate(name: str, table: FeatureTable, parts: Parts) -> TestResult:
    """Train on the first rows of each part and predict the tracks of the others.

    A track's prediction is the highest mean of its segments' scores, as a clip's is over windows.
    """
    is_right, seconds, size = [], 0.0, ""
    for train, test in tqdm(parts, desc=f"{name}, {len(table.genres):,} rows", leave=False):
        model, start = new_models()[name], time.monotonic()
        known, unknown = table[train], table[test]
        model.fit(known.features, known.genres)
        seconds += time.monotonic() - start
        scores = pd.DataFrame(model.decision_function(unknown.features), columns=model.classes_)
        predictions = scores.groupby(unknown.track_ids).mean().idxmax(axis=1)
        genres = pd.Series(unknown.genres).groupby(unknown.track_ids).first()
        is_right.append(predictions == genres)
        size = describe_size(model)
    of_tracks = pd.concat(is_right).astype(float)
    names = artists_and_titles()
    artists = [names[track][0] if track in names else "" for track in of_tracks.index]
    interval = mean_interval(of_tracks.to_numpy(), artist_groups(artists))
    n, accuracy = len(of_tracks), of_tracks.mean()
    return TestResult([accuracy], [interval], n, seconds / len(parts), size=size)


def describe_size(model: ClassifierMixin) -> str:
    """What such a model has in place of parameters."""
    if hasattr(model, "steps"):
        return f"{model[-1].n_support_.sum():,} support vectors"
    return f"{model.n_iter_ * len(model.classes_):,} trees"
