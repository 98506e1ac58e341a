"""Tags are written and taken back on real files of every format, also when killed in between."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile

from music_genre import audio
from music_genre.library import tags

RATE = 44_100
KINDS = ("mp3", "flac", "ogg", "opus", "m4a")


def write_audio(path: Path, seconds: float, **options: str) -> None:
    """Noise in the format of the suffix. options: of FFmpeg's muxer."""
    rate = 48_000 if path.suffix == ".opus" else RATE
    codecs = {".mp3": "libmp3lame", ".opus": "libopus", ".m4a": "aac"}
    pcm = audio.to_pcm16(0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate)))
    if path.suffix in (".flac", ".ogg"):
        soundfile.write(path, pcm, rate)
        return
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codecs[path.suffix], rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def write_music(folder: Path) -> list[Path]:
    """Every format: without tags, with tags, and the layouts that are harder to edit."""
    folder.mkdir()
    paths = []
    for kind in KINDS:
        for name in ("plain", "tagged", "large tags"):
            path = folder / f"{name}.{kind}"
            write_audio(path, 1.0 if name == "plain" else 8.0)
            if name != "plain":
                file = mutagen.File(path, easy=True)
                if file.tags is None:
                    file.add_tags()
                file["genre"] = ["Bossa nova", "Samba"]
                file["title"] = ["ç" * (10 if name == "tagged" else 70_000)]
                # No room left: the next change moves all that follows.
                file.save(padding=lambda info: 0)
            paths.append(path)
    front = folder / "index in front.m4a"
    write_audio(front, 3.0, movflags="faststart")
    old = folder / "old.mp3"
    write_audio(old, 3.0, id3v2_version="3", write_id3v1="1")
    file = mutagen.File(old, easy=True)
    file["genre"], file["title"] = ["Blues"], ["Old"]
    file.save(v1=2, v2_version=3)
    behind = folder / "flac behind id3.flac"
    write_audio(behind, 1.0)
    behind.write_bytes(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + behind.read_bytes())
    return [*paths, front, old, behind]


def state(paths: list[Path]) -> dict:
    return {
        path.name: (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            path.stat().st_mode,
        )
        for path in paths
    }


def rows_of(paths: list[Path], genre: str = "jazz", confidence: float = 0.9) -> list[dict]:
    return [
        {
            "path": str(path),
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "genre": genre,
            "probabilities": [confidence, 1 - confidence],
        }
        for path in paths
    ]


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[Path]:
    return write_music(tmp_path_factory.mktemp("music") / "music")


@pytest.fixture
def music(originals, tmp_path) -> list[Path]:
    shutil.copytree(originals[0].parent, tmp_path / "music")
    return [tmp_path / "music" / path.name for path in originals]


def write(paths: list[Path], folder: Path, **options) -> str:
    return tags.write_tags(
        rows_of(paths, **options), 0.6, True, folder / "log.jsonl", folder / "parts"
    )


def test_written_and_undone_every_file_is_what_it_was(music, tmp_path):
    music[3].chmod(0o640)
    before = state(music)
    samples = {path: audio.decode(path, 60)[0] for path in music}
    titles = {path: mutagen.File(path, easy=True).get("title") for path in music}
    report = write(music, tmp_path)
    assert f"{len(music)} written, 0 had it, 0 left as they are" in report
    for path in music:
        file = mutagen.File(path, easy=True)
        assert file["genre"] == ["jazz"]
        assert file.get("title") == titles[path]
        np.testing.assert_array_equal(audio.decode(path, 60)[0], samples[path])
        assert state([path])[path.name][0] != before[path.name][0]
    assert (tmp_path / "music" / "old.mp3").read_bytes()[:4] == b"ID3\x03"
    assert music[3].stat().st_mode & 0o777 == 0o640
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ["Bossa nova", "Samba"] in [entry.get("genre_before") for entry in log]
    size = (tmp_path / "log.jsonl").stat().st_size
    assert size < sum(path.stat().st_size for path in music), "no audio is in the log"
    report = tags.undo_tags(tmp_path / "log.jsonl")
    assert report == f"{len(music)} files are what they were, 0 are left."
    assert state(music) == before
    assert not (tmp_path / "log.jsonl").exists()


def test_written_twice_and_undone(music, tmp_path):
    before = state(music)
    write(music, tmp_path)
    assert f"0 written, {len(music)} had it" in write(music, tmp_path)
    write(music, tmp_path, genre="rock")
    assert mutagen.File(music[0], easy=True)["genre"] == ["rock"]
    tags.undo_tags(tmp_path / "log.jsonl")
    assert state(music) == before


def test_nothing_is_changed_without_a_yes_or_below_the_confidence(music, tmp_path):
    before = state(music)
    report = tags.write_tags(rows_of(music), 0.6, False, tmp_path / "log", tmp_path / "parts")
    assert "No file was changed" in report
    assert "0 written" in write(music, tmp_path, confidence=0.55)
    assert state(music) == before


def test_what_cannot_be_tagged_safely_is_left(music, tmp_path):
    rows = rows_of(music[:3])
    os.link(music[0], tmp_path / "other name.mp3")
    music[1].write_bytes(music[1].read_bytes() + b"later")
    music[2].write_bytes(b"fLaC, or so it says")
    rows[2] |= {"size": music[2].stat().st_size, "mtime_ns": music[2].stat().st_mtime_ns}
    before = state(music)
    report = tags.write_tags(rows, 0.6, True, tmp_path / "log", tmp_path / "parts")
    assert "0 written, 0 had it, 3 left" in report
    for reason in ("hard links", "changed since", "tags"):
        assert reason in report.split("\n", 1)[1]
    assert state(music) == before


def test_a_file_that_others_changed_since_is_not_undone(music, tmp_path):
    write(music[:2], tmp_path)
    music[0].write_bytes(music[0].read_bytes() + b"edited")
    edited = state(music[:1])
    log = tmp_path / "log.jsonl"
    assert "something else changed it" in tags.undo_tags(log)
    assert state(music[:1]) == edited
    assert log.exists(), "it may yet be undone by hand"


def test_a_file_that_changes_while_it_is_tagged_is_left(music, tmp_path, monkeypatch):
    patch = tags.make_patch

    def edited_meanwhile(original: str, changed: str) -> dict:
        os.utime(original, ns=(0, 0))
        return patch(original, changed)

    monkeypatch.setattr(tags, "make_patch", edited_meanwhile)
    data = music[0].read_bytes()
    assert "something else is changing it" in write(music[:1], tmp_path)
    assert music[0].read_bytes() == data


def test_a_link_stays_a_link(music, tmp_path):
    link = tmp_path / "link.flac"
    link.symlink_to(music[KINDS.index("flac") * 3])
    assert "1 written" in write([link], tmp_path)
    assert link.is_symlink()
    assert mutagen.File(link)["genre"] == ["jazz"]


def test_audio_that_would_change_is_not_written(music, tmp_path, monkeypatch):
    def careless(path: str, genre: str) -> list[str]:
        with open(path, "r+b") as file:
            file.seek(-2000, os.SEEK_END)
            file.write(b"oops")
        return []

    monkeypatch.setattr(tags, "_set_genre", careless)
    before = state(music)
    report = write(music[:3], tmp_path)
    assert report.count("more than the tag") == 3
    assert state(music) == before


@pytest.mark.parametrize(
    ("original", "changed"),
    [
        (b"", b"tag"),
        (b"audio" * 99, b"tag" + b"audio" * 99),
        (b"tag" + b"audio" * 99, b"audio" * 99),
        (b"long tag" + b"audio" * 99 + b"old end", b"tag" + b"audio" * 99 + b"new end"),
        (b"a" * 500, b"a" * 7),
        (bytes(range(256)) * 9, bytes(range(256)) * 9),
    ],
)
@pytest.mark.parametrize("block", [7, tags.BLOCK])
def test_a_patch_makes_the_original(tmp_path, monkeypatch, block, original, changed):
    monkeypatch.setattr(tags, "BLOCK", block)
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(original)
    b.write_bytes(changed)
    patch = json.loads(json.dumps(tags.make_patch(str(a), str(b))))
    assert b"".join(tags.patched(str(b), patch)) == original


def test_killed_at_random_every_file_is_old_or_new_and_undo_takes_all_back(music, tmp_path):
    before, n_tagged = state(music), 0
    code = (
        "import json, sys; from pathlib import Path; from music_genre.library import tags;"
        "print('ready', flush=True); folder = Path(sys.argv[1]);"
        "rows = json.loads((folder / 'rows.json').read_text());"
        "tags.write_tags(rows, 0.6, True, folder / 'log.jsonl', folder / 'parts')"
    )
    root = Path(__file__).resolve().parents[3]
    for i in range(3):
        (tmp_path / "rows.json").write_text(json.dumps(rows_of(music, genre=f"genre {i}")))
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.readline()
        log = tmp_path / "log.jsonl"
        n_before = len(log.read_bytes().splitlines()) if log.exists() else 0
        while process.poll() is None and (
            not log.exists() or len(log.read_bytes().splitlines()) < n_before + 4 * (i + 1)
        ):
            time.sleep(0.001)
        time.sleep(random.Random(i).uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "it was killed on the way"
        for path in music:
            genre = mutagen.File(path, easy=True).get("genre", [])
            n_tagged += any(name.startswith("genre") for name in genre)
    assert n_tagged
    tags.undo_tags(tmp_path / "log.jsonl")
    assert state(music) == before
    assert {path.name for path in (tmp_path / "music").iterdir()} == set(before)
