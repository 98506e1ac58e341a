"""One audio file of a source: its metadata, and whether and how it is used."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

KEPT = "kept"
MANIFEST_COLUMNS = (
    "track_id", "genre", "artist", "title", "album", "split", "seconds", "lost_seconds", "starts",
    "sha256", "status", "archive", "member",
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A part of a track that was decoded."""

    start: float  # seconds into the track
    path: Path  # of its WAV file


@dataclass
class Track:
    """A row of manifest.csv. An empty string means unknown."""

    track_id: str
    genre: str = ""
    artist: str = ""
    title: str = ""
    album: str = ""
    split: str = ""
    seconds: float = 0.0  # of its clips
    lost_seconds: float = 0.0  # seconds of its clips that could not be decoded
    sha256: str = ""  # of the int16 samples of its clips
    status: str = KEPT  # or why it is left out
    archive: str = ""
    member: str = ""  # its name in the source, on one line
    is_bad: bool = False  # its file cannot be used
    clips: list[Clip] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        return self.status == KEPT

    @property
    def starts(self) -> str:
        return " ".join(f"{clip.start:g}" for clip in self.clips)

    def leave_out_bad(self, status: str) -> None:
        """Leave it out because its file cannot be used."""
        self.status, self.is_bad = status, True

    def add(
        self, clips: list[Clip], start: float, seconds: float, lost_seconds: float, sha256: str
    ) -> None:
        """Add the clips of a file that begins `start` seconds into this track."""
        self.clips += [Clip(start + clip.start, clip.path) for clip in clips]
        self.seconds = round(self.seconds + seconds, 3)
        self.lost_seconds = round(self.lost_seconds + lost_seconds, 3)
        both = f"{self.sha256}{sha256}".encode()
        self.sha256 = hashlib.sha256(both).hexdigest() if self.sha256 else sha256
