"""Send many visitors to the page for a long time: does it stay up and fast, without growing?

    python benchmarks/soak.py --clients 32 --minutes 20 --model runs/quickstart
    python benchmarks/soak.py --clients 4 --minutes 2 --kinds live      # latency while listening

Starts app.py and clients that each send one request after another: songs, batches, live listening
and broken files. Prints the seconds of each kind, the server's memory, and the files it keeps.
"live chunk" is the time from before a second of sound is sent to the arrival of its answer, which
docs/serving.md quotes. Clients and server share the machine, so the clients' work is in the figures
too. Exits with 1 after an error that is not a refusal by a stated limit.
"""

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

from benchmarks.measuring import parser_of, print_head, print_row, save_distilhubert
from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre.wav import to_pcm16
from tests.page_client import Listener, Server, Visitor, serving

FORMATS = ("WAV", "MP3", "FLAC", "OGG", "AIFF")
LISTEN_SECONDS = 10
MICROPHONE = 48_000  # hertz, as browsers send it
SHARES = {"classify": 10, "batch": 3, "broken": 3, "live": 3}


def songs() -> dict[str, bytes]:
    files = {}
    for i, kind in enumerate(FORMATS):
        buffer = io.BytesIO()
        soundfile.write(buffer, synthesise("rock", i, 20.0), SAMPLING_RATE, format=kind)
        files[f"song.{kind.lower()}"] = buffer.getvalue()
    return files


def ask(kind: str, address: str, files: dict[str, bytes], rng: random.Random) -> list[float]:
    """One request; returns the latencies of live chunks.

    Raises:
        ValueError: the answer is not what it should be.
    """
    if kind == "live":
        music = to_pcm16(synthesise("disco", 1, float(LISTEN_SECONDS), MICROPHONE))
        live = Listener(address).listen(np.array_split(music, LISTEN_SECONDS), MICROPHONE)
        if live.error:
            raise ValueError(live.error)
        return live.latencies
    visitor, name = Visitor(address), rng.choice(list(files))
    file = visitor.upload(name, files[name])
    broken = visitor.upload("broken.wav", files[name][: rng.randrange(1, 40)])
    endpoint, sent, expected = {
        "classify": ("classify", file, "'genre'"),
        "broken": ("classify", broken, "cannot be used"),
        "batch": ("classify_batch", [file, file, broken], "cannot be used"),
    }[kind]
    outcome, result = visitor.call(endpoint, sent)
    is_complete = outcome == ("error" if kind == "broken" else "complete")
    if not is_complete or expected not in str(result):
        raise ValueError(f"{outcome} {result}")
    return []


class Log:
    """What all clients saw, by kind of request."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.refused: dict[str, int] = defaultdict(int)
        self.errors: list[str] = []

    def client(self, address: str, kinds: list[str], files: dict, seed: int, end: float) -> None:
        rng, is_first = random.Random(seed), True
        while is_first or time.monotonic() < end:
            is_first = False
            (kind,) = rng.choices(kinds, [SHARES[kind] for kind in kinds])
            start = time.monotonic()
            try:
                self.seconds["live chunk"] += ask(kind, address, files, rng)
                self.seconds[kind].append(time.monotonic() - start)
            except (httpx.HTTPError, TimeoutError, ValueError, KeyError) as error:
                text = f"{kind}: {type(error).__name__}: {error}"
                if "503" in text or "queue is full" in text.lower():
                    self.refused[kind] += 1
                else:
                    self.errors.append(text[:300])


def soak(server: Server, kinds: list[str], n_clients: int, seconds: float) -> tuple[Log, list]:
    """Return what the clients saw, and the memory of server and decoders, in MB once a second."""
    log, files, memory = Log(), songs(), []
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=log.client, args=(server.address, kinds, files, i, end))
        for i in range(n_clients)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(server.resident())
        time.sleep(1)
    return log, memory


def report(log: Log, memory: list[tuple[float, float]], server: Server) -> None:
    print_head("kind", "answers", "refused: queue full", "p50 s", "p95 s", "longest s")
    for kind in sorted({*log.seconds, *log.refused}):
        times = log.seconds[kind] or [np.nan]
        figures = (f"{value:.3f}" for value in (*np.percentile(times, [50, 95]), max(times)))
        print_row(kind, len(log.seconds[kind]), log.refused[kind], *figures)
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
    kept = server.files()
    print(f"files kept: {len(kept)}, {sum(path.stat().st_size for path in kept) / 1e6:.0f} MB")
    print(f"tracebacks in the server's log: {server.log.read_text().count('Traceback')}")
    print("\n  ".join([f"errors: {len(log.errors)}", *log.errors[:20]]))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--model", help="a folder or an id; default: DistilHuBERT's architecture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = arguments.model or str(save_distilhubert(folder / "model"))
        with serving(model, folder) as server:
            log, memory = soak(server, arguments.kinds, arguments.clients, 60 * arguments.minutes)
            report(log, memory, server)
    sys.exit(bool(log.errors))


if __name__ == "__main__":
    main()
