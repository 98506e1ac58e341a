"""GTZAN in any form: a file's name is its track, and the index knows artists and titles."""

from pathlib import Path

from data_prep.archive import Member
from data_prep.gtzan import as_tracks, track_id_of
from data_prep.names import shown
from data_prep.sources.source import Source
from data_prep.track import Track


def from_archive(path: Path) -> Source:
    return _Gtzan(path, "gtzan", "GTZAN")


class _Gtzan(Source):
    def track(self, member: Member) -> Track:
        track_id = track_id_of(member.name)
        track = as_tracks({track_id: ""})[track_id] if track_id else Track("")
        track.archive, track.member = self.path.name, shown(member.name)
        if not track_id:
            track.status = "its name is not that of a GTZAN clip, such as blues.00000.wav"
        return track

    def describe(self) -> str:
        return f"{self.path}: GTZAN."
