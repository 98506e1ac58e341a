"""Decode files in processes of their own: a crash, a hang or a blow-up of memory costs one file.

    decoders = Decoders(seconds=60, stalled_after=300)
    waveform, sampling_rate = decoders.decode("song.mp3", max_seconds=600, to=16_000)

The scan and the page decode so; native decoders crash, and nothing else can hold that off. Samples
come through a pipe as they are. Nothing that a decoder process says is unpickled, since a file may
have taken it over.
"""

import atexit
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from music_genre import old_audio as audio
from music_genre.audio_files import AudioError, AudioFile
from music_genre.decoder_process import OUT_OF_MEMORY, SLOWEST
from music_genre.errors import InputError

MAX_MEMORY = 2**30  # bytes of address space; 0.2 GB are Python's and the libraries'
MAX_BLOCK = 2**24  # samples
TRIES = 3  # of a file whose decoder died: the file before may have broken it
CHECK_SECONDS = 0.5  # between looks at the processes
# Processes that are kept, 50 MB each: as many as this program has cores.
MAX_IDLE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GRACE = 5  # seconds in which a process ends by itself
# Its imports would start threads, each with memory of its own.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# No folder of a person's comes first in its path: a random.py there would be imported.
CODE = (
    "import sys; sys.path.append(sys.argv[2]); from music_genre.decoder_process import main; main()"
)
ROOT = str(Path(__file__).resolve().parents[1])
FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"}  # the OOM killer sends the first


class DecoderError(AudioError):
    """The process that decoded the file is gone; the message says how.

    is_temporary: it may not be the file's fault.
    is_worth_retrying: in a fresh process.
    """

    def __init__(
        self, reason: str, is_temporary: bool = False, is_worth_retrying: bool = False
    ) -> None:
        super().__init__(reason)
        self.is_temporary, self.is_worth_retrying = is_temporary, is_worth_retrying


class Decoders:
    """Decoder processes: started when one is needed, kept for the next file, replaced if they die.

    There are as many as callers at a time, and MAX_IDLE are kept. Any thread may call.

    Args:
        seconds: of a processor, that a file may take, besides a share for the sound that comes out.
        stalled_after: seconds without a sign of a process until it is ended: its disk may hang, and
            the system may know no limit of processor time.
    """

    def __init__(self, seconds: int, stalled_after: float) -> None:
        self._limits = (seconds, stalled_after)
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._watch = threading.Thread(target=self._end_stalled, daemon=True)
        self._lock = threading.Lock()
        atexit.register(self.close)

    def start(self, n: int) -> None:
        """Start up to `n` processes and wait for none: the first files find them ready."""
        while len(self._idle) < min(n, MAX_IDLE):
            self._idle.append(_Decoder(*self._limits))

    @contextmanager
    def open_audio(self, source: str | os.PathLike, is_fresh: bool = False) -> Iterator[AudioFile]:
        """What `audio_files.open_audio` does, for a path; is_fresh: in a process that is new.

        Raises:
            DecoderError: the process is gone, while opening or decoding.
            InputError: no process can be started.
        """
        decoder = None if is_fresh else self._take_idle()
        if decoder is None:
            decoder = _Decoder(*self._limits)
        self._busy.add(decoder)
        try:
            yield decoder.open(os.path.abspath(source))
            decoder.close_file()
        finally:
            self._busy.remove(decoder)
            if decoder.is_at_rest and len(self._idle) < MAX_IDLE:
                self._idle.append(decoder)
            else:
                decoder.end()

    def _take_idle(self) -> "_Decoder | None":
        with self._lock:
            if not self._watch.ident:
                self._watch.start()
            while self._idle:
                decoder = self._idle.pop()
                if decoder.is_alive():
                    return decoder
                decoder.end()
        return None

    def _end_stalled(self) -> None:
        """In a thread: a read from a pipe knows no limit of time on every system."""
        while True:
            time.sleep(CHECK_SECONDS)
            for decoder in tuple(self._busy):
                if time.monotonic() > decoder.deadline:
                    decoder.end_stalled()

    def decode(
        self, source: str | os.PathLike, max_seconds: float, to: int | None = None
    ) -> tuple[np.ndarray, int]:
        """`audio.decode` for a path, tried again where the process died. Raises as `open_audio`."""
        for n_left in reversed(range(TRIES)):
            open_file = partial(self.open_audio, is_fresh=n_left < TRIES - 1)
            try:
                return audio.decode(source, max_seconds, to, open_file=open_file)
            except DecoderError as error:
                if not (error.is_worth_retrying and n_left):
                    raise
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """End the processes that wait."""
        while self._idle:
            self._idle.pop().end()


class _Decoder:
    """One process. It starts, is at rest, has a file open, or sends that file's blocks.

    deadline: on the monotonic clock, of the reply that is waited for.
    """

    def __init__(self, seconds: int, stalled_after: float) -> None:
        self._seconds, self._stalled_after = seconds, stalled_after
        self._is_started, self._is_stalled, self._is_file_open = False, False, False
        self.is_at_rest, self.deadline = False, math.inf
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", CODE, str(MAX_MEMORY), ROOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ONE_THREAD,
            )
        except OSError as error:
            raise InputError(f"No decoder process can be started: {error}.") from error

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def open(self, path: str) -> AudioFile:
        self.is_at_rest = False
        if not self._is_started:
            self._wait_for_start()
        self._send({"path": path, "seconds": self._seconds})
        reply = self._receive()
        self._is_file_open = True
        try:
            return _RemoteFile(self, reply["sampling_rate"], reply["duration"])
        except (KeyError, TypeError):
            raise self._failure() from None

    def _wait_for_start(self) -> None:
        try:
            self._receive()
        except DecoderError as error:
            if (self._process.returncode or 0) > 0:  # an import failed, for this and any file
                raise InputError(
                    "The decoder process ended when it started; its own message is above."
                ) from error
            raise
        self.is_at_rest, self._is_started = False, True

    def blocks(self, start: float, seconds: float) -> Iterator[np.ndarray]:
        self._send([start, seconds])
        self._is_file_open = False
        while not self.is_at_rest:
            reply = self._receive(start / SLOWEST)
            if "samples" in reply:
                yield reply["block"]

    def close_file(self) -> None:
        """After it the process is at rest, if all blocks that were asked for have been taken."""
        if self._is_file_open:
            self._send(None)
            self._is_file_open = False
        if not self.is_at_rest:
            self._receive()

    def end(self) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(GRACE)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()

    def _send(self, request: object) -> None:
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure() from None

    def _receive(self, more_seconds: float = 0.0) -> dict[str, Any]:
        """The next reply, with its "block".

        Raises:
            AudioError, OSError: it is about the file.
            DecoderError: the process is gone, or was ended as no reply came for so long.
        """
        self.deadline = time.monotonic() + self._stalled_after + more_seconds
        try:
            reply = json.loads(self._process.stdout.readline())
            if n_samples := reply.get("samples"):
                reply["block"] = self._read_block(n_samples)
        except (ValueError, AttributeError, TypeError, OSError):
            raise self._failure() from None
        finally:
            self.deadline = math.inf
        self.is_at_rest = not {"sampling_rate", "samples"} & reply.keys()
        if "error" in reply:
            raise AudioError(reply["error"])
        if "errno" in reply:
            raise OSError(reply["errno"], reply["strerror"])
        return reply

    def _read_block(self, n_samples: int) -> np.ndarray:
        if not 0 < n_samples <= MAX_BLOCK:
            raise ValueError(n_samples)
        block = np.empty(n_samples, np.float32)
        if self._process.stdout.readinto(block.view(np.uint8)) != block.nbytes:
            raise ValueError("the process ended within a block")
        return block

    def end_stalled(self) -> None:
        self._is_stalled = True
        self._process.kill()

    def _failure(self) -> DecoderError:
        """Why the process no longer answers."""
        try:
            code = self._process.wait(GRACE)  # its pipes are closed before its status is known
        except subprocess.TimeoutExpired:
            self._process.kill()
            return DecoderError("decoding it went wrong")
        if self._is_stalled:
            reason = f"nothing came of it for {self._stalled_after:g} s"
            return DecoderError(reason, is_temporary=True)
        if code == OUT_OF_MEMORY:
            reason = f"decoding it needs more than {MAX_MEMORY / 2**30:g} GB of memory"
            return DecoderError(reason, is_worth_retrying=True)
        if code >= 0:  # Windows has no signals
            return DecoderError(f"decoding it crashed (exit code {code})", is_worth_retrying=True)
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        if name == "SIGXCPU":
            return DecoderError(f"decoding it took more than {self._seconds} s of a processor")
        if name in FROM_OUTSIDE:
            reason = f"its decoder was ended from outside (signal {-code}, {name})"
            return DecoderError(reason, is_temporary=True, is_worth_retrying=True)
        reason = f"decoding it crashed (signal {-code}, {name})"
        return DecoderError(reason, is_worth_retrying=True)


class _RemoteFile(AudioFile):
    """A file that a decoder process has open: what it says is checked as a file's own claims."""

    def __init__(self, decoder: _Decoder, sampling_rate: int, duration: float | None) -> None:
        super().__init__(sampling_rate, 1, duration)
        self._decoder = decoder

    def _read(self, start: float, n_samples: int) -> Iterator[np.ndarray]:
        # Half a sample more: the product with the rate is rounded down there.
        yield from self._decoder.blocks(start, (n_samples + 0.5) / self.sampling_rate)
