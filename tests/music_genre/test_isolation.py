"""Decoder processes: failures that cost one file and say how, and pools that go on after them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from unittest import mock

import av
import numpy as np
import pytest
import soundfile

from music_genre.audio import AudioError, decode
from music_genre.isolation import DecoderError, DecoderPool, result, run_in_pool
from tests.processes import is_running, wait_until

ROOT = Path(__file__).resolve().parents[2]


# What tasks do. Processes are spawned and import this module.


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def fill_memory() -> int:
    return len(bytearray(8 << 30))


def hang() -> None:
    time.sleep(3600)


def have_a_bug() -> None:
    raise av.error.InvalidDataError(1, "a bug of the decoder", "file")


def process_id() -> int:
    return os.getpid()


def niceness() -> int:
    return os.nice(0)


def has_torch() -> bool:
    return "torch" in sys.modules


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(num_processes=1) as pool:
        yield pool


def call(pool, function, *args, timeout: float = 60):
    return result(pool.schedule(function, args=args, timeout=timeout))


def test_samples_are_those_of_this_process(pool, tmp_path):
    path = tmp_path / os.fsdecode(b"na\xefve \n.wav")  # a name that is not UTF-8
    noise = 0.1 * np.random.default_rng(0).standard_normal((50_000, 2))
    with open(path, "wb") as file:
        soundfile.write(file, noise, 22_050, format="WAV")
    for arguments in ((16_000,), (16_000, 0.5, 1.0)):
        found, expected = call(pool, decode, str(path), *arguments), decode(path, *arguments)
        np.testing.assert_array_equal(found.waveform, expected.waveform)


def test_a_broken_file_is_what_it_is_in_this_process(pool, tmp_path):
    (tmp_path / "text.mp3").write_text("I am a text.\n" * 50)
    for name in ("text.mp3", "nowhere.wav"):
        with pytest.raises((AudioError, FileNotFoundError)) as expected:
            decode(tmp_path / name, 16_000)
        with pytest.raises(expected.type) as found:
            call(pool, decode, str(tmp_path / name), 16_000)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    ("function", "said", "is_temporary"),
    [
        (segfault, r"its decoder crashed \(SIGSEGV\)", False),
        (fill_memory, "decoding it needs too much memory", False),
        (hang, "decoding it took too long", True),
        (leave, "decoding it took too long", True),
        (have_a_bug, r"it cannot be decoded \(InvalidDataError: .*a bug of the decoder", False),
    ],
)
def test_a_failure_costs_one_file_and_says_how(pool, function, said, is_temporary):
    call(pool, process_id)
    with pytest.raises(DecoderError, match=said) as error:
        call(pool, function, timeout=2)
    assert error.value.is_temporary == is_temporary
    assert call(pool, process_id) != os.getpid()


def test_a_process_that_is_killed_at_work_may_not_be_the_files_fault(pool):
    pid = call(pool, process_id)
    task = pool.schedule(hang, args=[], timeout=60)
    wait_until(task.running)
    time.sleep(0.5)  # it says so before it gives the lock of the pool's channel back
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DecoderError, match=r"ended from outside \(SIGKILL\)") as error:
        result(task)
    assert error.value.is_temporary


def test_a_pool_survives_the_end_of_a_process_that_waits():
    """pebble gives such a pool up."""
    with DecoderPool(num_processes=2) as pool:
        os.kill(call(pool, process_id), signal.SIGKILL)
        for _ in range(2):
            try:
                call(pool, process_id)
            except DecoderError as error:
                assert error.is_temporary
        assert call(pool, process_id) != os.getpid()


def test_decoders_wait_for_the_net(pool):
    assert call(pool, niceness) == os.nice(0) + 10


def test_a_process_imports_no_torch(pool):
    assert not call(pool, has_torch)


PROGRAM = """
import os, sys
sys.path.insert(0, {root!r})
from music_genre.isolation import DecoderPool, result

def where():
    import music_genre
    return music_genre.__file__, os.getpid()

if __name__ == "__main__":
    pool = DecoderPool(1)
    print(*result(pool.schedule(where, args=[], timeout=60)), flush=True)
    if "wait" in sys.argv:
        input()
"""


def test_a_process_imports_what_its_program_imports(tmp_path):
    """Not another copy, installed or in the folder where the program is started."""
    other = tmp_path / "music_genre"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('another copy')")
    program = tmp_path / "scripts" / "program.py"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(root=str(ROOT)))
    run = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.startswith(str(ROOT / "music_genre")), run.stderr
    assert run.stderr == "", "and a program that leaves its pool open ends without a word"


def test_processes_end_with_a_program_that_is_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    run = subprocess.Popen(
        [sys.executable, program, "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(run.stdout.readline().split()[-1])
    assert is_running(child)
    run.kill()
    run.wait()
    wait_until(lambda: not is_running(child))


def test_the_second_try_is_alone():
    """What ends a process takes along whatever shares the pool with it."""
    running, n_running = set(), []

    class Task(Future):
        def __init__(self, *_: object, **options: object) -> None:
            super().__init__()
            running.add(self)
            n_running.append(len(running))

        def result(self) -> None:
            running.remove(self)
            raise MemoryError

    names = "abcdefghijkl"
    calls = [(name, ()) for name in names]
    done = run_in_pool(mock.Mock(schedule=Task, num_processes=1), print, calls, timeout=1)
    assert [name for name, _ in done] == list(names)
    assert n_running == [*range(1, 10), 9, 9, 9, *[1] * 12]
