"""One audio file of a source: what is known of it, and what became of it."""

from dataclasses import dataclass, field

KEPT = "kept"
MANIFEST_COLUMNS = (
    "track_id", "genre", "artist", "title", "album", "split", "seconds", "starts", "sha256",
    "status", "archive", "member",
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A part of a track, decoded, in the spool file."""

    start: float  # seconds into the track
    offset: int  # of its WAV in the spool file
    n_bytes: int


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
    sha256: str = ""  # of the int16 samples of its clips at 16 kHz
    status: str = KEPT  # or why it is left out
    archive: str = ""
    member: str = ""  # its name in the source, as text that fits a line
    is_temporary: bool = False  # what left it out may pass: the next run tries again
    clips: list[Clip] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        return self.status == KEPT

    @property
    def starts(self) -> str:
        return " ".join(f"{clip.start:g}" for clip in self.clips)
