"""scikit-learn on the feature tables of the Kaggle archive: an RBF SVM.

Run by `python -m baselines`. A table has 57 features per track (`features_30_sec.csv`), or per
tenth of a track (`features_3_sec.csv`): means and variances of 28 descriptors, and the tempo. The
tables come with the archive, for all of GTZAN's tracks; no features are computed here.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from baselines.comparison import Row, score, train_and_test
from data_prep.archive import members_of
from data_prep.gtzan import FEATURE_TABLES, GENRES
from music_genre.errors import InputError

NOT_FEATURES = ["filename", "length", "label"]  # the length says nothing about the music
N_FOLDS = N_DRAWS = 10
DRAWN = "random, as small as"
Parts = list[tuple[np.ndarray, np.ndarray]]  # rows to train on, rows to test on


def read_tables(archive: Path) -> dict[str, pd.DataFrame]:
    """Return the archive's tables: a row per track or segment, with its label, indexed by track.

    Raises InputError: the archive has no such table, or one that cannot be used.
    """
    tables = {}
    for member in members_of(archive, {".csv"}):
        if member.basename in FEATURE_TABLES:
            seconds = member.basename.split("_")[1]
            tables[f"{seconds} s"] = read_table(member.read(), member.basename)
    if not tables:
        raise InputError(f"{archive} has none of {', '.join(sorted(FEATURE_TABLES))}.")
    return tables


def read_table(content: bytes, name: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(content))
        table.index = table["filename"].str.extract(r"^(\w+\.\d{5})\.", expand=False)
        table = table[table["label"].isin(GENRES) & table.index.notna()]
        features = table.drop(columns=NOT_FEATURES).astype(float)
    except (AttributeError, KeyError, ValueError) as error:
        reason = str(error)[:80]  # it may repeat a cell, which may be of any size
        raise InputError(f"{name} is not a feature table of GTZAN: {reason}.") from error
    if features.empty or not np.isfinite(features).all(axis=None):
        raise InputError(f"{name} has no rows, or a cell that is not a finite number.")
    tracks_of_genre = table["label"].groupby(level=0).first().value_counts()
    if len(tracks_of_genre) < 3 or tracks_of_genre.min() < N_FOLDS:
        raise InputError(f"{name} needs three genres, and {N_FOLDS} tracks of each.")
    return features.assign(label=table["label"])


def parts_of(table: pd.DataFrame, methods: Sequence[str]) -> Iterator[tuple[str, Parts]]:
    """Yield each split's name and its rows to train and test on; a track's segments stay together.

    A split by a list is followed by as many tracks at random, to isolate the effect of the leak.
    """
    tracks, labels = table.index.to_numpy(), table["label"].to_numpy()
    for method in methods:
        if method == "random":
            folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
            yield "random, 10 folds", list(folds.split(tracks, labels, tracks))
            continue
        train, test = train_and_test(tracks, method)
        yield method, [(train, test)]
        if table.index.is_unique:
            draws = StratifiedShuffleSplit(
                N_DRAWS, train_size=len(train), test_size=len(test), random_state=0
            )
            yield f"{DRAWN} {method}", list(draws.split(tracks, labels))


def evaluate(what: str, split: str, table: pd.DataFrame, parts: Parts) -> Row:
    """Train on the first rows of each part, and predict the tracks of its other rows.

    A track's prediction has the highest mean score over its segments, as a clip's over windows.
    """
    is_right, features = [], table.drop(columns="label")
    for train, test in parts:
        model = make_pipeline(StandardScaler(), SVC(C=10))
        model.fit(features.iloc[train], table["label"].iloc[train])
        scores = pd.DataFrame(
            model.decision_function(features.iloc[test]),
            columns=model.classes_,
            index=table.index[test],
        )
        predictions = scores.groupby(level=0).mean().idxmax(axis=1)
        labels = table["label"].groupby(level=0).first()[predictions.index]
        is_right.append((predictions == labels).astype(float))
    size = f"{model[-1].n_support_.sum():,} support vectors"
    if not split.startswith(DRAWN):  # each track is tested once
        return Row("RBF SVM", what, split, *score(pd.concat(is_right)), size)
    accuracies, intervals, (n, *_) = zip(*map(score, is_right), strict=True)
    low, high = np.mean(intervals, axis=0)
    return Row("RBF SVM", what, split, float(np.mean(accuracies)), (low, high), n, size)
