"""Decode every clip of the archives once, in threads, into one spool file on disk.

Only after all archives are read is it known which clips are kept and in which split they are, so
the WAVs wait in the spool file, and the clips that cannot be used stay in the list with the reason.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from data_prep.archive import (
    FEATURE_TABLES,
    MARKER,
    ArchiveError,
    Member,
    MemberError,
    open_archive,
)
from data_prep.splits import genre_of
from data_prep.tables import TableError, add_track_ids
from music_genre import audio
from music_genre.errors import InputError

MIN_SECONDS, MAX_SECONDS = 1.0, 60.0  # a GTZAN clip lasts 30 s; excerpts of 2 to 3 s circulate
KEPT = "kept"


class BadClipError(InputError):
    """With `--on_bad_clip fail`: a clip that would have been dropped."""


@dataclass
class Clip:
    """One row of manifest.csv: an audio member of an archive, and what became of it."""

    track_id: str
    genre: str
    split: str
    seconds: float
    sha256: str  # of the int16 samples at 16 kHz
    status: str  # KEPT, or why not
    archive: str
    member: str
    place: tuple[int, int] = (0, 0)  # of its WAV in the spool file: first byte, number of bytes

    @property
    def is_kept(self) -> bool:
        return self.status == KEPT


@dataclass
class Contents:
    """What the archives hold, besides the spooled audio."""

    clips: list[Clip] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)  # name -> CSV with the column track_id
    bad_tables: dict[str, str] = field(default_factory=dict)  # name -> why it is left out
    has_marker: bool = False  # the archive that is being read
    is_synthetic: bool = False


def decode_archives(archives: list[Path], spool_path: Path, on_bad_clip: str) -> Contents:
    """Decode the clips of all archives into `spool_path`.

    Raises:
        ArchiveError: an archive cannot be read, or they mix recorded and synthesised music.
        BadClipError: a clip cannot be used and `on_bad_clip` is "fail".
    """
    contents = Contents()
    kinds = set()  # whether an archive with clips is synthesised
    with spool_path.open("wb") as spool:
        for path in archives:
            contents.has_marker = False
            for clip, wav in _decode_archive(path, contents):
                contents.clips.append(clip)
                if not clip.is_kept and on_bad_clip == "fail":
                    raise BadClipError(
                        f"{clip.member} in {clip.archive} cannot be used: {clip.status}. "
                        "Omit `--on_bad_clip fail` to continue without it."
                    )
                clip.place = (spool.tell(), len(wav))
                spool.write(wav)
            if contents.clips and contents.clips[-1].archive == path.name:
                kinds.add(contents.has_marker)
    if len(kinds) > 1:
        raise ArchiveError(
            "Some of these archives hold synthesised music and others do not: prepare them "
            "separately."
        )
    contents.is_synthetic = kinds == {True}
    return contents


def _decode_archive(path: Path, contents: Contents) -> Iterator[tuple[Clip, bytes]]:
    """Yield clips with their WAVs in the archive's order; one thread per core decodes.

    Few clips are in memory at once. Tables and the marker go into `contents`.
    """
    n_threads = os.cpu_count() or 1
    n_torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # clips are decoded in parallel: more threads per clip slow this down
    pending: deque[Future] = deque()
    try:
        with (
            open_archive(path) as members,
            ThreadPoolExecutor(n_threads) as pool,
            tqdm(desc=f"Decoding {path.name}", unit=" clips") as bar,
        ):
            for member in _clips_only(members, contents):
                pending.append(pool.submit(_decode_member, path.name, member))
                if len(pending) > 2 * n_threads:
                    yield pending.popleft().result()
                    bar.update()
            while pending:
                yield pending.popleft().result()
                bar.update()
    finally:
        torch.set_num_threads(n_torch_threads)


def _clips_only(members: Iterator[Member], contents: Contents) -> Iterator[Member]:
    for member in members:
        name = member.basename
        if member.is_clip:
            yield member
        elif name == MARKER:
            contents.has_marker = True
        elif name in FEATURE_TABLES and name not in contents.tables:
            try:
                contents.tables[name] = add_track_ids(member.read())
            except (MemberError, TableError) as error:
                contents.bad_tables[name] = str(error)


def _decode_member(archive_name: str, member: Member) -> tuple[Clip, bytes]:
    track_id = member.track_id or ""
    clip = Clip(
        track_id=track_id,
        genre=genre_of(track_id),
        split="",
        seconds=0.0,
        sha256="",
        status=KEPT,
        archive=archive_name,
        # A name can be of any length and hold line breaks; the manifest is for people.
        member=member.name[-200:].encode("unicode_escape").decode(),
    )
    try:
        if not track_id:
            raise audio.AudioError("its name is not that of a GTZAN clip, such as blues.00000.wav")
        waveform, sampling_rate = audio.decode(member.read(), MAX_SECONDS + 1)
        clip.seconds = round(len(waveform) / sampling_rate, 3)
        if clip.seconds < MIN_SECONDS:
            raise audio.AudioError(f"shorter than {MIN_SECONDS:g} s")
        if clip.seconds > MAX_SECONDS:
            raise audio.AudioError(f"longer than {MAX_SECONDS:g} s: not a clip of GTZAN")
        if audio.is_silent(waveform):
            raise audio.AudioError("digital silence")
        pcm = audio.to_pcm16(audio.resample(waveform, sampling_rate))
        clip.sha256 = hashlib.sha256(pcm).hexdigest()
        return clip, audio.wav_bytes(pcm)
    except (MemberError, audio.AudioError) as error:
        clip.status = str(error)
        return clip, b""
