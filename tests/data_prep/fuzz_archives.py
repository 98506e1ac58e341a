"""Mutate GTZAN archives at random and prepare each in a bounded process of its own.

    python tests/data_prep/fuzz_archives.py --n 1000

A case passes if the preparation ends within 30 s, with a dataset or one clear sentence, and writes
nothing outside its output folder. Prints counts, the slowest case and the peak memory.
"""

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_prep import decoding
from data_prep.gtzan import GENRES
from data_prep.prepare import prepare
from music_genre.errors import InputError
from tests.data_prep.archives import clip_bytes
from tests.data_prep.test_archive import make
from tests.pool_here import PoolHere

TIME_LIMIT = 30  # seconds
EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def clips() -> dict[str, bytes]:
    """Nine short clips in all formats that GTZAN circulates in."""
    members = {}
    formats = ("WAV", "AU", "FLAC", "OGG", "MP3")
    for i, genre in enumerate(GENRES[:3] * 3):
        kind = formats[i % len(formats)]
        name = f"genres/{genre}/{genre}.{i:05d}.{kind.lower()}"
        members[name] = clip_bytes(i, 1.5, 16_000, format=kind)
    members["tracks.csv"] = b"filename,length\nblues.00000.wav,1\n" * 20
    return members


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four random edits; half of them near the ends, where archives keep their structure."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not out:
            return bytes(out)
        edge = int(rng.choice([0, max(0, len(out) - 1200)]))
        spread = 600 if rng.random() < 0.5 else len(out)
        at = min(len(out) - 1, (edge if spread == 600 else 0) + int(rng.integers(spread)))
        match rng.integers(5):
            case 0:
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                out[at : at + 64] = rng.bytes(len(out[at : at + 64]))
            case 2:
                order = str(rng.choice(["little", "big"]))
                out[at : at + 4] = int(rng.choice(EXTREMES)).to_bytes(4, order)
            case 3:
                del out[at : at + int(rng.integers(1, 5000))]
            case 4:
                out[at:at] = out[: int(rng.integers(1, 3000))]
    return bytes(out)


def make_case(seed: int, folder: str) -> bytes:
    """A damaged archive: of damaged clips, with absurd names, or damaged itself."""
    rng = np.random.default_rng(seed)
    members = clips()
    kind = str(rng.choice(["zip", "tar", "tar.gz"]))
    if rng.random() < 0.4:
        members = {n: mutate(d, rng) if rng.random() < 0.6 else d for n, d in members.items()}
    if rng.random() < 0.2:
        prefixes = ("../", "/", "a/" * 2000, "\x01\n", "C:\\", "é\u202e/", "__MACOSX/")
        members = {str(rng.choice(prefixes)) + name: data for name, data in members.items()}
    data = make(Path(folder, "made"), kind, members).read_bytes()
    Path(folder, "made").unlink()
    return mutate(data, rng) if rng.random() < 0.8 else data


def run_case(data: bytes, folder: Path) -> tuple[str, float, int]:
    """Prepare an archive in a forked process with limits on time and on what it writes.

    Returns the outcome, "dataset", "sentence" or what went wrong; seconds; bytes resident at most.
    """
    given, work, log = folder / "given.bin", folder / "work", folder / "log"
    given.write_bytes(data)
    work.mkdir()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            signal.alarm(TIME_LIMIT)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
            os.chdir(work)
            decoding.DecoderPool = PoolHere  # this process is one of its own already
            with log.open("w") as file, contextlib.redirect_stderr(file):
                try:
                    prepare([given], work / "out", split="random")
                    code = 0
                except InputError:
                    code = 2
                except BaseException:
                    traceback.print_exc()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    outcome = {0: "dataset", 2: "sentence", -signal.SIGALRM: "hang"}.get(code)
    if outcome is None:
        outcome = f"code {code}: " + (log.read_text().splitlines() or ["?"])[-1]
    written = {path.name for path in (*work.iterdir(), *folder.iterdir())}
    if written - {"given.bin", "work", "log", "out"}:
        outcome = f"written outside: {sorted(written)}"
    if code == 2 and (work / "out").exists():
        outcome = "a sentence, but also a dataset"
    return outcome, time.monotonic() - start, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--first_seed", type=int, default=0)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    results = []
    for seed in tqdm(range(arguments.first_seed, arguments.first_seed + arguments.n)):
        with tempfile.TemporaryDirectory() as folder:
            results.append(run_case(make_case(seed, folder), Path(folder)))
        if results[-1][0] not in ("dataset", "sentence"):
            print(f"seed {seed}: {results[-1][0]}")
    outcomes, seconds, memory = zip(*results, strict=True)
    print(dict(Counter(outcomes)))
    print(f"slowest {max(seconds):.1f} s")
    print(f"peak memory {max(memory) / 2**20:.0f} MB")
    sys.exit(not {*outcomes} <= {"dataset", "sentence"})


if __name__ == "__main__":
    main()
