"""What is known about GTZAN's 1,000 tracks: genres, artists, titles, and the fault-filtered split.

Artists and titles come from B. L. Sturm, "An Analysis of the GTZAN Music Genre Dataset", Proc.
ACM Workshop MIRUM, Nara, 2012 (`gtzan_index.csv` is his table: 919 tracks with an artist, 81
without). Its last column has the fault-filtered lists of C. Kereliuk, B. L. Sturm, J. Larsen, "Deep
Learning and Music Adversaries", IEEE Trans. Multimedia 17(11), 2015, as torchaudio ships them;
importing torchaudio takes longer than everything else here.
"""

import csv
import re
from functools import cache
from pathlib import Path, PurePosixPath

from data_prep.track import Track

GENRES = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip
SPLITS = ("train", "validation", "test")
DESCRIPTIONS = {  # of the split methods in data_prep.splits
    "filtered": "fault-filtered (Kereliuk, Sturm and Larsen 2015)",
    "artist": "artist-grouped",
    "random": "random 80/10/10, course-comparable",
}
FEATURE_TABLES = {"features_30_sec.csv", "features_3_sec.csv"}  # Kaggle's, with filename and label
CLIP_NAME = re.compile(rf"({'|'.join(GENRES)})\.(\d{{5}})", re.IGNORECASE)


@cache
def _index() -> list[dict[str, str]]:
    with Path(__file__).with_name("gtzan_index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def artists_and_titles() -> dict[str, tuple[str, str]]:
    """track_id -> (artist, title) of all 1,000 tracks; an empty string means unknown."""
    return {row["track_id"]: (row["artist"], row["title"]) for row in _index()}


@cache
def filtered_split() -> dict[str, str]:
    """track_id -> "train" (443), "validation" (197) or "test" (290); the faulty 70 are absent."""
    return {row["track_id"]: row["filtered_split"] for row in _index() if row["filtered_split"]}


def track_id_of(name: str) -> str | None:
    """GTZAN's id for a file's name, such as "blues.00000"; None if it is not a clip of GTZAN."""
    match = CLIP_NAME.fullmatch(PurePosixPath(name.replace("\\", "/")).stem)
    return match[0].lower() if match else None


def as_track(track_id: str) -> Track:
    """A track of GTZAN, with its artist and title if they are known."""
    return Track(track_id, genre_of(track_id), *artists_and_titles().get(track_id, ()))


def genre_of(track_id: str) -> str:
    return track_id.split(".")[0]
