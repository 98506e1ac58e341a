"""Decoder processes: the same samples, and failures that cost one file and say how."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_genre import audio_files, decoder_pool
from music_genre import old_audio as audio
from music_genre.decoder_pool import DecoderError, Decoders
from music_genre.errors import InputError
from tests.failing_decoders import ENVIRONMENT, beginning
from tests.hostile_inputs import whole


@pytest.fixture
def decoders(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    decoders = Decoders(seconds=1, stalled_after=60)
    yield decoders
    decoders.close()


def pids(decoders: Decoders) -> list[int]:
    """Of the processes that wait."""
    return [decoder._process.pid for decoder in decoders._idle]


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def failing(folder: Path, way: str) -> Path:
    path = folder / f"{way}.mp3"
    path.write_bytes(beginning(way))
    return path


@pytest.mark.parametrize("name", ["mono.wav", "stereo.flac", "song.ogg"])
@pytest.mark.parametrize("to", [None, 16_000])
def test_samples_are_those_of_this_process(decoders, tmp_path, name, to):
    path, shape = tmp_path / name, (audio_files.BLOCK + 60_000, 2 if "stereo" in name else 1)
    noise = 0.1 * np.random.default_rng(0).standard_normal(shape)
    soundfile.write(path, noise, 22_050)
    for start, seconds in ((0.0, 99.0), (0.5, 1.0), (1.0, 0.3)):
        expected, rate = audio.decode(path, seconds, to, start)
        found = audio.decode(path, seconds, to, start, open_file=decoders.open_audio)
        assert found[1] == rate
        np.testing.assert_array_equal(found[0], expected)
        in_blocks = partial(audio.decode_in_blocks, path, 99.0, 16_000, start, seconds)
        blocks, n_samples = in_blocks(open_file=decoders.open_audio)
        blocks = np.concatenate(list(blocks))
        assert len(blocks) == n_samples
        np.testing.assert_array_equal(blocks, np.concatenate(list(in_blocks()[0])))
    with audio.open_audio(path) as one, decoders.open_audio(path) as other:
        assert (one.sampling_rate, one.duration) == (other.sampling_rate, other.duration)
    assert len(pids(decoders)) == 1, "one process did it all"


def test_processes_can_be_started_before_they_are_needed(decoders, song):
    decoders.start(100)
    before = pids(decoders)
    assert len(before) == decoder_pool.MAX_IDLE
    assert len(decoders.decode(song, 10)[0])
    assert sorted(pids(decoders)) == sorted(before)


def test_a_broken_file_is_what_it_is_in_this_process(decoders, tmp_path):
    (tmp_path / "text.mp3").write_text("I am a text.\n" * 50)
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), 16_000, subtype="FLOAT")
    for name in ("text.mp3", "empty.wav", "nan.wav"):
        with pytest.raises(audio.AudioError) as expected:
            audio.decode(tmp_path / name, 10)
        with pytest.raises(audio.AudioError) as found:
            decoders.decode(tmp_path / name, 10)
        assert str(found.value) == str(expected.value)
    with pytest.raises(FileNotFoundError):
        decoders.decode(tmp_path / "nowhere.wav", 10)
    assert len(pids(decoders)) == 1


def test_names_that_are_not_utf8_are_found(decoders, tmp_path):
    path = os.fsencode(tmp_path) + b"/na\xefve \n.wav"
    with open(path, "wb") as file:
        soundfile.write(file, np.zeros(16_000), 16_000, format="WAV")
    assert len(decoders.decode(os.fsdecode(path), 10)[0]) == 16_000


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("abort", "decoding it crashed (signal 6, SIGABRT)"),
        ("segfault", "decoding it crashed (signal 11, SIGSEGV)"),
        ("8 GB", "decoding it needs more than 1 GB of memory"),
        ("loop", "decoding it took more than 1 s of a processor"),
        ("exit", "decoding it crashed (exit code 0)"),
        ("bug", "it cannot be decoded (RuntimeError: a bug of the decoder)"),
    ],
)
def test_a_failure_costs_one_file_and_says_how(decoders, tmp_path, song, way, said, capfd):
    assert len(decoders.decode(song, 10)[0])
    with pytest.raises(audio.AudioError) as caught:
        decoders.decode(failing(tmp_path, way), 10)
    assert str(caught.value) == said
    assert not getattr(caught.value, "is_temporary", False)
    assert len(decoders.decode(song, 10)[0])
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.glob("core*"))


def test_a_process_that_does_nothing_is_ended(decoders, tmp_path):
    """It may wait for a disk, so it may not be the file's fault."""
    stalled = Decoders(seconds=1, stalled_after=2)
    with pytest.raises(DecoderError) as caught:
        stalled.decode(failing(tmp_path, "sleep"), 10)
    assert str(caught.value) == "nothing came of it for 2 s" and caught.value.is_temporary


def test_a_crash_is_not_blamed_on_the_next_file(decoders, tmp_path, song):
    expected = decoders.decode(song, 10)[0]
    with pytest.raises(audio.AudioError, match="not audio"):
        decoders.decode(failing(tmp_path, "poison"), 10)
    np.testing.assert_array_equal(decoders.decode(song, 10)[0], expected)


def test_a_killed_process_is_replaced(decoders, song, monkeypatch):
    expected = decoders.decode(song, 10)[0]
    (pid,) = pids(decoders)
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(decoders.decode(song, 10)[0], expected)
    receive = decoder_pool._Decoder._receive

    def kill_and_receive(decoder, *arguments):
        os.kill(decoder._process.pid, signal.SIGKILL)
        decoder._process.wait()
        return receive(decoder, *arguments)

    monkeypatch.setattr(decoder_pool._Decoder, "_receive", kill_and_receive)
    with pytest.raises(DecoderError, match=r"ended from outside \(signal 9, SIGKILL\)") as caught:
        decoders.decode(song, 10)
    assert caught.value.is_temporary


def test_a_file_that_is_left_early_leaves_no_process(decoders, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(3 * audio_files.BLOCK), 44_100)
    with decoders.open_audio(tmp_path / "long.wav") as file:
        blocks = file.blocks()
        next(blocks)
        pid = file._decoder._process.pid
    assert not pids(decoders) and not is_running(pid)


def test_every_process_ends_with_its_parent(tmp_path, song):
    """Also one that hangs in a decoder, by the limit of its processor time."""
    script = (
        "import sys, threading\n"
        "from music_genre.decoder_pool import Decoders\n"
        "decoders = Decoders(seconds=1, stalled_after=60)\n"
        "decoders.decode(sys.argv[1], 10)\n"
        "print(decoders._idle[0]._process.pid, flush=True)\n"
        "first = decoders._idle.pop()\n"
        "decoders.decode(sys.argv[1], 10)\n"
        "print(decoders._idle[0]._process.pid, flush=True)\n"
        "decoders.decode(sys.argv[2], 10)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, song, failing(tmp_path, "loop")],
        env=os.environ | {"PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{decoder_pool.ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    children = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(map(is_running, children))
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(is_running, children)))


def test_a_process_that_cannot_start_is_not_blamed_on_the_file(decoders, song, monkeypatch):
    monkeypatch.setattr(decoder_pool, "CODE", "raise SystemExit(1)")
    with pytest.raises(InputError, match="The decoder process ended when it started") as caught:
        decoders.decode(song, 10)
    assert not isinstance(caught.value, audio.AudioError)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match="No decoder process can be started"):
        decoders.decode(song, 10)


@pytest.mark.parametrize(
    "reply",
    [b"no JSON\n", b"7\n", b'{"samples": -1}\n', b'{"samples": 99999999999999}\n', b"{}\n"],
)
def test_what_a_process_replies_is_checked(decoders, song, monkeypatch, reply):
    """A file may have taken it over."""
    code = f"import sys; sys.stdout.write('{{}}\\n' + {reply.decode()!r}); sys.stdout.flush(); "
    monkeypatch.setattr(decoder_pool, "CODE", code + "sys.stdin.read()")
    monkeypatch.setattr(decoder_pool, "GRACE", 0.1)
    with pytest.raises(DecoderError, match="decoding it went wrong"):
        decoders.decode(song, 10)


def test_the_process_imports_no_torch():
    code = "import sys, music_genre.decoder_process; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=decoder_pool.ROOT, capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_a_small_file_for_which_ffmpeg_takes_more_than_a_gigabyte(decoders, tmp_path):
    """Found by fuzz_decoders.py: one packet claims half a gigabyte, in the table of their sizes."""
    data = bytearray(whole()["whole.m4a"])
    sizes = data.index(b"stsz") + 16
    data[sizes + 4 * 53] = 0x20
    (tmp_path / "a.m4a").write_bytes(data)
    with pytest.raises(DecoderError, match="decoding it needs more than 1 GB of memory"):
        decoders.decode(tmp_path / "a.m4a", 10)
