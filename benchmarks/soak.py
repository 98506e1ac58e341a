"""Many visitors at once, for long: does the page stay up, quick, and no larger than it was?

    python benchmarks/soak.py --clients 32 --minutes 20 --model runs/quickstart
    python benchmarks/soak.py --clients 4 --minutes 2 --kinds live      # latency while listening

Starts app.py and lets clients ask it, one request after another, for all it offers: songs in
several formats, batches, live listening, broken files, and more files than are allowed. Prints the
seconds of each kind, the server's memory, and the files it keeps. "live chunk" is the time from
before a second of sound is sent to the arrival of its answer. docs/serving.md quotes it. Client and
server share the machine, so the client's work is in the figures too. Exits with 1 after an error
that is not a refusal by a stated limit.
"""

import argparse
import io
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import httpx
import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inputs import save_distilhubert
from benchmarks.measuring import print_head, print_row
from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre.wav import to_pcm16
from tests.page_client import Listener, Server, Visitor, serving

FORMATS = ("WAV", "MP3", "FLAC", "OGG", "AIFF")
LISTEN_SECONDS = 10
MICROPHONE = 48_000  # hertz, as browsers send it
QUEUE_IS_FULL = 503  # a refusal by a stated limit


class Log:
    """What all clients saw."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.refused: dict[str, int] = defaultdict(int)
        self.errors: list[str] = []
        self.lock = threading.Lock()

    def add(self, kind: str, seconds: list[float]) -> None:
        with self.lock:
            self.seconds[kind] += seconds

    def fail(self, kind: str, error: str) -> None:
        with self.lock:
            if str(QUEUE_IS_FULL) in error or "queue is full" in error.lower():
                self.refused[kind] += 1
            else:
                self.errors.append(f"{kind}: {error[:300]}")


# --- what clients send ----------------------------------------------------------------------


def songs() -> dict[str, bytes]:
    files = {}
    for i, kind in enumerate(FORMATS):
        buffer = io.BytesIO()
        pcm = to_pcm16(synthesise("rock", i, 20.0))
        soundfile.write(buffer, pcm, SAMPLING_RATE, format=kind)
        files[f"song.{kind.lower()}"] = buffer.getvalue()
    return files


def take() -> list[np.ndarray]:
    """Synthesised music as pieces of one second each, int16."""
    music = synthesise("disco", 1, float(LISTEN_SECONDS), MICROPHONE)
    return np.array_split(to_pcm16(music), LISTEN_SECONDS)


def classify(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    """Returns what went wrong, if anything; so do the others."""
    name = rng.choice(list(files))
    outcome, result = visitor.call("classify", visitor.upload(name, files[name]))
    return "" if outcome == "complete" and "genre" in result[0] else f"{outcome} {result}"


def batch(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    names = rng.sample(list(files), 2)
    given = [visitor.upload(name, files[name]) for name in names]
    given.append(visitor.upload("broken.mp3", rng.randbytes(500)))
    outcome, result = visitor.call("classify_batch", given)
    right = outcome == "complete" and [("error" in one) for one in result[0]] == [0, 0, 1]
    return "" if right else f"{outcome} {result}"


def broken(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    data = rng.choice(list(files.values()))[: rng.randrange(1, 40)]
    outcome, result = visitor.call("classify", visitor.upload("broken.wav", data))
    return "" if outcome == "error" and "cannot be used" in str(result) else f"{outcome} {result}"


def too_many(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    file = visitor.upload("song.mp3", files["song.mp3"])
    outcome, result = visitor.call("classify_batch", [file] * 21)
    return "" if outcome == "error" and "between 1 and" in str(result) else f"{outcome} {result}"


REQUESTS = {"classify": classify, "batch": batch, "broken": broken, "too many": too_many}
SHARES = {"classify": 10, "batch": 3, "broken": 3, "too many": 1, "live": 3}


# --- the clients ----------------------------------------------------------------------------


def client(server: Server, kinds: list[str], files: dict, seed: int, end: float, log: Log) -> None:
    rng = random.Random(seed)
    visitor = Visitor(server.address)
    is_first = True
    while is_first or time.monotonic() < end:
        is_first = False
        (kind,) = rng.choices(kinds, [SHARES[kind] for kind in kinds])
        start = time.monotonic()
        try:
            if kind == "live":
                result = Listener(server.address).listen(take(), MICROPHONE)
                log.add("live chunk", result.latencies)
                error = result.error
            else:
                error = REQUESTS[kind](visitor, files, rng)
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError) as caught:
            error = f"{type(caught).__name__}: {caught}"
        if error:
            log.fail(kind, error)
        else:
            log.add(kind, [time.monotonic() - start])


def soak(
    server: Server, kinds: list[str], n_clients: int, seconds: float
) -> tuple[Log, list[tuple[float, float]]]:
    """What the clients saw, and the memory of server and decoders in megabytes once a second."""
    log, files = Log(), songs()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(server, kinds, files, i, end, log))
        for i in range(n_clients)
    ]
    memory = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(server.resident())
        time.sleep(1)
    return log, memory


def report(log: Log, memory: list[tuple[float, float]], before: float, server: Server) -> None:
    print_head("kind", "answers", "refused: queue full", "p50 s", "p95 s", "longest s")
    for kind in sorted({*log.seconds, *log.refused}):
        times = log.seconds[kind] or [np.nan]
        p50, p95 = np.percentile(times, [50, 95])
        refused = log.refused[kind]
        print_row(
            kind, len(log.seconds[kind]), refused, f"{p50:.3f}", f"{p95:.3f}", f"{max(times):.3f}"
        )
    tenth = max(1, len(memory) // 10)
    for name, used in zip(("server", "decoders"), zip(*memory, strict=True), strict=True):
        second, sixth, last = (
            statistics.median(part)
            for part in (used[: 2 * tenth][-tenth:], used[: 6 * tenth][-tenth:], used[-tenth:])
        )
        print(
            f"memory of the {name} in the second, sixth and last tenth of the time: {second:.0f}, "
            f"{sixth:.0f}, {last:.0f} MB (medians; from the sixth to the last "
            f"{last / (sixth or 1) - 1:+.1%}); peak {max(used):.0f} MB"
        )
    total = [sum(one) for one in memory]
    print(f"memory: {before:.0f} MB before; {max(total):.0f} MB at the peak")
    kept = server.files()
    size = sum(path.stat().st_size for path in kept) / 1e6
    print(f"files kept: {len(kept)}, {size:.0f} MB")
    print(f"tracebacks in the server's log: {server.log.read_text().count('Traceback')}")
    print(f"errors: {len(log.errors)}")
    for error in log.errors[:20]:
        print(f"  {error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--model", help="a folder or an id; default: DistilHuBERT's architecture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = arguments.model or str(save_distilhubert(folder / "model"))
        with serving(model, folder) as server:
            print(server.log.read_text().split("\n")[0], flush=True)
            before = sum(server.resident())
            seconds = 60 * arguments.minutes
            log, memory = soak(server, arguments.kinds, arguments.clients, seconds)
            report(log, memory, before, server)
    sys.exit(bool(log.errors))


if __name__ == "__main__":
    main()
