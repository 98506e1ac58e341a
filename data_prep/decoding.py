"""Decode every track of the sources once, several at a time, into one spool file on disk.

Only after all sources are read is it known which tracks are kept and in which split they are, so
the WAVs wait in the spool file, and tracks that cannot be used stay in the list with the reason.
"""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from data_prep import excerpts
from data_prep.archive import FEATURE_TABLES, MARKER, ArchiveError, Member, MemberError
from data_prep.excerpts import MIN_SECONDS, Cutting
from data_prep.sources import Source
from data_prep.tables import TableError, add_track_ids
from data_prep.tags import read_tags
from data_prep.track import Clip, Track
from data_prep.wav import NotPcm16Error, open_pcm16
from music_genre import old_audio as audio
from music_genre.decoder_pool import DecoderError, Decoders
from music_genre.errors import InputError

OF_THE_FILE = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP}
DECODERS = Decoders(seconds=60, stalled_after=300)


class BadClipError(InputError):
    """With `--on_bad_clip fail`: a clip that would have been dropped."""


@dataclass
class Contents:
    """What the sources hold, besides the spooled audio."""

    tracks: list[Track] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)  # name -> CSV with the column track_id
    bad_tables: dict[str, str] = field(default_factory=dict)  # name -> why it is left out
    has_marker: bool = False  # the source that is being read
    is_synthetic: bool = False


def decode_sources(
    sources: list[Source], spool_path: Path, on_bad_clip: str, cutting: Cutting
) -> Contents:
    """Decode the tracks of all sources into `spool_path`.

    Raises:
        ArchiveError: a source cannot be read, or they mix recorded and synthesised music.
        BadClipError: a track cannot be decoded and `on_bad_clip` is "fail".
    """
    contents = Contents()
    kinds = set()  # whether a source with clips is synthesised
    with spool_path.open("wb") as spool:
        for source in sources:
            contents.has_marker = False
            n_before = len(contents.tracks)
            for track, wavs in _decode_source(source, contents, cutting):
                contents.tracks.append(track)
                if not track.is_kept and on_bad_clip == "fail":
                    raise BadClipError(
                        f"{track.member} in {track.archive} cannot be used: {track.status}. "
                        "Omit `--on_bad_clip fail` to continue without it."
                    )
                for start, wav in wavs:
                    track.clips.append(Clip(start, spool.tell(), len(wav)))
                    spool.write(wav)
            if len(contents.tracks) > n_before:
                kinds.add(contents.has_marker)
    if len(kinds) > 1:
        raise ArchiveError(
            "Some of these archives hold synthesised music and others do not: prepare them "
            "separately."
        )
    contents.is_synthetic = kinds == {True}
    return contents


Wavs = list[tuple[float, bytes]]  # start in seconds, and a WAV, of each clip


def _decode_source(
    source: Source, contents: Contents, cutting: Cutting
) -> Iterator[tuple[Track, Wavs]]:
    """Yield tracks with their WAVs in the source's order; one thread per core decodes.

    Few tracks are in memory at once. Tables and the marker go into `contents`. Tracks that are left
    out by their names, table or tags come without being decoded.
    """
    n_threads = os.cpu_count() or 1
    n_torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # clips are decoded in parallel: more threads per clip slow this down
    pending: deque[Future] = deque()
    seen: set[int] = set()
    n_known = sum(track.is_kept for track in source.tracks.values())
    try:
        with (
            source.members() as members,
            ThreadPoolExecutor(n_threads) as pool,
            tqdm(desc=f"Decoding {source.path.name}", unit=" files", total=n_known or None) as bar,
        ):
            for member in _audio_only(members, source, contents):
                track = source.track(member)
                if id(track) in seen:
                    continue  # an archive may hold two members of one name
                seen.add(id(track))
                if not track.is_kept:
                    yield track, []
                    continue
                pending.append(pool.submit(_decode, source, member, track, cutting))
                if len(pending) > 2 * n_threads:
                    yield pending.popleft().result()
                    bar.update()
            while pending:
                yield pending.popleft().result()
                bar.update()
    finally:
        torch.set_num_threads(n_torch_threads)
    for track in source.tracks.values():
        if id(track) not in seen:  # of a table: there is no such file
            yield track, []


def _audio_only(members: Iterator[Member], source: Source, contents: Contents) -> Iterator[Member]:
    for member in members:
        name = member.basename
        if member.is_clip:
            if source.is_gtzan or member.name in source.tracks:
                yield member
        elif name == MARKER:
            contents.has_marker = True
        elif source.is_gtzan and name in FEATURE_TABLES and name not in contents.tables:
            try:
                contents.tables[name] = add_track_ids(member.read())
            except (MemberError, TableError) as error:
                contents.bad_tables[name] = str(error)


def _decode(source: Source, member: Member, track: Track, cutting: Cutting) -> tuple[Track, Wavs]:
    try:
        if source.is_gtzan:
            found = [_clip(member)]
        else:
            with _on_disk(member) as path:
                found = _in_process(excerpts.cut, path, cutting)
                _add_tags(track, path)
        return track, _wavs(track, found)
    except (MemberError, audio.AudioError) as error:
        track.status, track.is_temporary = str(error), getattr(error, "is_temporary", False)
    except OSError as error:  # it went away, or its disk did, or there is no room to unpack it
        track.status = f"cannot be read ({error.strerror})"
        track.is_temporary = error.errno not in OF_THE_FILE
    return track, []


def _clip(member: Member) -> excerpts.Excerpt:
    try:
        return excerpts.whole(member.path or member.read(), open_pcm16)
    except NotPcm16Error:
        with _on_disk(member) as path:
            return _in_process(excerpts.whole, path)


@contextmanager
def _on_disk(member: Member) -> Iterator[Path]:
    """Decoder processes open paths."""
    if member.path:
        yield member.path
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, f"track{member.suffix}")
        path.write_bytes(member.read())
        yield path


def _in_process(cut: Callable, *arguments: object) -> Any:
    """In a decoder process, and again in a new one if that ends: the file before may be why."""
    try:
        return cut(*arguments, open_file=DECODERS.open_audio)
    except DecoderError as error:
        if not error.is_worth_retrying:
            raise
    return cut(*arguments, open_file=partial(DECODERS.open_audio, is_fresh=True))


def _add_tags(track: Track, path: Path) -> None:
    """What folders or the table do not say, for the splits."""
    if not (track.artist and track.title):
        tags = read_tags(path)
        track.artist = track.artist or tags.artist
        track.title = track.title or tags.title


def _wavs(track: Track, found: list[excerpts.Excerpt]) -> Wavs:
    """
    Raises:
        AudioError: there is too little audio, or only silence.
    """
    n_samples = sum(len(waveform) for _, waveform in found)
    track.seconds = round(n_samples / audio.SAMPLING_RATE, 3)
    if track.seconds < MIN_SECONDS:
        raise audio.AudioError(f"shorter than {MIN_SECONDS:g} s")
    if all(audio.is_silent(waveform) for _, waveform in found):
        raise audio.AudioError("digital silence")
    total, wavs = hashlib.sha256(), []
    for start, waveform in found:
        pcm = audio.to_pcm16(waveform)
        total.update(pcm)
        wavs.append((start, audio.wav_bytes(pcm)))
    track.sha256 = total.hexdigest()
    return wavs
