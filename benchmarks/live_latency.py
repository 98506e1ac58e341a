"""How soon a chunk of live sound is answered, over HTTP, with a model of DistilHuBERT's size.

    python benchmarks/live_latency.py                     # random weights, made here
    python benchmarks/live_latency.py --model runs/distilhubert-gtzan --listeners 1 2 4

From before a chunk of one second is uploaded to the arrival of its answer: client and server share
the machine, so the client's work is in the figures too. The first chunk, which may wait for a turn,
is left out. "lost": overwritten by the next chunk before the server took it; "merged": taken in
while the model was busy, and answered together with the next.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.models import save_distilhubert
from benchmarks.page_client import Listener, serving
from music_genre import audio

CHUNKS_EACH_TIME = 26  # seconds of one time of listening
MICROPHONE = 48_000  # hertz, as browsers send it


def chunks(n_seconds: int, n_takes: int) -> list[list[bytes]]:
    """Takes of synthesised music, each of WAV files of a second.

    No two are alike: the server keeps files of one content once, and deletes a chunk when heard.
    """
    from data_prep.synthetic import synthesise

    music = synthesise("disco", 1, float(n_seconds), MICROPHONE)
    takes = (audio.to_pcm16(music * (1 - i / 100)) for i in range(n_takes))
    return [
        [audio.wav_bytes(part, MICROPHONE) for part in np.array_split(take, n_seconds)]
        for take in takes
    ]


def measure(address: str, n_listeners: int, n_times: int) -> str:
    """A row of the table."""
    takes = chunks(CHUNKS_EACH_TIME, n_listeners * n_times)
    with ThreadPoolExecutor(n_listeners) as pool:
        heard = list(pool.map(lambda take: Listener(address).listen(take), takes))
    errors = [one.error for one in heard if one.error]
    seconds = np.concatenate([one.latencies for one in heard])
    n_sent, n_lost, n_merged = (
        sum(getattr(one, name) for one in heard) for name in ("n_sent", "n_lost", "n_merged")
    )
    p50, p95 = 1000 * np.percentile(seconds, [50, 95])
    row = f"| {n_listeners} | {len(seconds)} | {p50:.0f} | {p95:.0f} | {1000 * seconds.max():.0f} "
    return row + f"| {n_lost / n_sent:.1%} | {n_merged / n_sent:.1%} | {len(errors)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="default: DistilHuBERT's size with random weights")
    parser.add_argument("--listeners", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--times", type=int, default=4, help=f"of {CHUNKS_EACH_TIME} s each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or save_distilhubert(Path(folder) / "model")
        with serving(model, Path(folder)) as server:
            print(server.log.read_text().split("\n")[0])
            print("| listeners | answers | p50 ms | p95 ms | worst ms | lost | merged | errors |")
            print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
            for n_listeners in arguments.listeners:
                print(measure(server.address, n_listeners, arguments.times), flush=True)


if __name__ == "__main__":
    main()
