"""Many visitors at once, for long: does the page stay up, quick, and no larger than it was?

    python benchmarks/soak.py --clients 32 --minutes 20 --model runs/quickstart

Starts app.py and lets clients ask it, one after another, for all it offers: songs in several
formats, batches, live listening, files that are broken, and more files than are allowed. Prints
what came of them, the server's memory, and the files it keeps. Exits with 1 after an error that is
not a refusal by a stated limit. Without --model it makes one of DistilHuBERT's size.
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

from benchmarks.live_latency import chunks
from benchmarks.models import save_distilhubert
from benchmarks.page_client import Listener, Server, Visitor, serving
from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre import audio

FORMATS = ("WAV", "MP3", "FLAC", "OGG", "AIFF")
LISTEN_CHUNKS = 10
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


def songs() -> dict[str, bytes]:
    files = {}
    for i, kind in enumerate(FORMATS):
        buffer = io.BytesIO()
        pcm = audio.to_pcm16(synthesise("rock", i, 20.0))
        soundfile.write(buffer, pcm, SAMPLING_RATE, format=kind)
        files[f"song.{kind.lower()}"] = buffer.getvalue()
    return files


def classify(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    name = rng.choice(list(files))
    outcome, answer = visitor.call("classify", visitor.upload(name, files[name]))
    return "" if outcome == "complete" and "genre" in answer[0] else f"{outcome} {answer}"


def batch(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    names = rng.sample(list(files), 2)
    given = [visitor.upload(name, files[name]) for name in names]
    given.append(visitor.upload("broken.mp3", rng.randbytes(500)))
    outcome, answer = visitor.call("classify_batch", given)
    right = outcome == "complete" and [("error" in one) for one in answer[0]] == [0, 0, 1]
    return "" if right else f"{outcome} {answer}"


def broken(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    data = rng.choice(list(files.values()))[: rng.randrange(1, 40)]
    outcome, answer = visitor.call("classify", visitor.upload("broken.wav", data))
    return "" if outcome == "error" and "cannot be used" in str(answer) else f"{outcome} {answer}"


def too_many(visitor: Visitor, files: dict[str, bytes], rng: random.Random) -> str:
    file = visitor.upload("song.mp3", files["song.mp3"])
    outcome, answer = visitor.call("classify_batch", [file] * 21)
    return "" if outcome == "error" and "between 1 and" in str(answer) else f"{outcome} {answer}"


ASKS = {"classify": classify, "batch": batch, "broken": broken, "too many": too_many}
SHARES = {"classify": 10, "batch": 3, "broken": 3, "too many": 1, "listen": 3}


def client(server: Server, files: dict, take: list[bytes], seed: int, end: float, log: Log) -> None:
    rng = random.Random(seed)
    visitor = Visitor(server.address)
    while time.monotonic() < end:
        (kind,) = rng.choices(list(SHARES), SHARES.values())
        start = time.monotonic()
        try:
            if kind == "listen":
                heard = Listener(server.address).listen(take)
                log.add("live chunk", heard.latencies)
                error = heard.error
            else:
                error = ASKS[kind](visitor, files, rng)
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError) as caught:
            error = f"{type(caught).__name__}: {caught}"
        if error:
            log.fail(kind, error)
        else:
            log.add(kind, [time.monotonic() - start])


def soak(server: Server, n_clients: int, seconds: float) -> tuple[Log, list[float]]:
    """What the clients saw, and the server's memory in megabytes once a second."""
    log, files = Log(), songs()
    takes = chunks(LISTEN_CHUNKS, n_clients)
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(server, files, takes[i], i, end, log))
        for i in range(n_clients)
    ]
    memory = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(server.resident())
        time.sleep(1)
    return log, memory


def report(log: Log, memory: list[float], before: float, server: Server) -> None:
    print("| kind | answers | refused: queue full | p50 s | p95 s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind in sorted({*log.seconds, *log.refused}):
        p50, p95 = np.percentile(log.seconds[kind] or [np.nan], [50, 95])
        print(
            f"| {kind} | {len(log.seconds[kind])} | {log.refused[kind]} | {p50:.2f} | {p95:.2f} |"
        )
    third = max(1, len(memory) // 10)
    start, middle, end = (
        statistics.median(part)
        for part in (
            memory[third : 2 * third] or memory,
            memory[len(memory) // 2 - third // 2 :][:third],
            memory[-third:],
        )
    )
    print(
        f"memory: {before:.0f} MB before; medians of tenths: {start:.0f} MB in the second, "
        f"{middle:.0f} MB in the middle, {end:.0f} MB in the last ({end / start - 1:+.1%}); "
        f"peak {max(memory):.0f} MB"
    )
    kept = server.files()
    chunks_left = [path for path in kept if path.name == "audio.wav"]
    print(
        f"files kept: {len(kept)}, {sum(path.stat().st_size for path in kept) / 1e6:.0f} MB, "
        f"{len(chunks_left)} of them live chunks"
    )
    text = server.log.read_text()
    print(f"tracebacks in the server's log: {text.count('Traceback')}")
    print(f"errors: {len(log.errors)}")
    for error in log.errors[:20]:
        print(f"  {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--model", help="default: DistilHuBERT's size with random weights")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or save_distilhubert(Path(folder) / "model")
        with serving(model, Path(folder)) as server:
            print(server.log.read_text().split("\n")[0], flush=True)
            before = server.resident()
            log, memory = soak(server, arguments.clients, 60 * arguments.minutes)
            report(log, memory, before, server)
    sys.exit(bool(log.errors))


if __name__ == "__main__":
    main()
