"""Mutate audio files of all formats at random and decode each in a decoder process.

    python tests/music_genre/fuzz_decoders.py --n 20000 --keep crashes

A case passes if it ends in sound or in a sentence; a crash of a decoder process is a sentence, too,
is counted, and its file kept. Fails if anything else comes out, or the slowest case takes longer
than the limit of a decoder. The n-th case is the same in every run.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from music_genre.audio_files import AudioError
from music_genre.decoder_pool import DecoderError, Decoders
from tests.data_prep.fuzz_archives import mutate
from tests.hostile_inputs import whole

SECONDS = 5  # of a processor
SLOWEST = 60  # seconds of a case on a busy machine


def make_case(files: dict[str, bytes], seed: int) -> tuple[str, bytes, float]:
    """A file's name, its content, and where decoding begins, in seconds."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(list(files)))
    start = float(rng.choice([0.0, 0.0, 0.7, 100.0]))
    return name, mutate(files[name], rng), start


def decode(decoders: Decoders, path: Path, start: float) -> str:
    """What came of it."""
    try:
        with decoders.open_audio(path) as file:
            n_samples = sum(map(len, file.blocks(start, 600.0)))
        return "sound" if n_samples else "no sound"
    except DecoderError as error:
        return str(error)
    except AudioError:
        return "a sentence"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for files that end their decoder")
    arguments = parser.parse_args()
    files, decoders = whole(), Decoders(seconds=SECONDS, stalled_after=SLOWEST)
    outcomes, ends, slowest = Counter(), Counter(), (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.n):
            name, data, start = make_case(files, seed)
            path = Path(folder) / name
            path.write_bytes(data)
            began = time.monotonic()
            outcome = decode(decoders, path, start)
            slowest = max(slowest, (time.monotonic() - began, f"{seed} {name}"))
            if outcome not in ("sound", "no sound", "a sentence"):
                print(f"seed {seed}, {name} from {start:g} s: {outcome}", flush=True)
                ends[outcome] += 1
                outcome = "the end of its decoder"
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / f"{seed} {name}").write_bytes(data)
            outcomes[outcome] += 1
    decoders.close()
    print(f"{arguments.n} files: {dict(outcomes)}")
    print(f"ends of decoders: {dict(ends)}")
    print(f"slowest {slowest[0]:.1f} s, seed {slowest[1]}")
    sys.exit(slowest[0] > SLOWEST)


if __name__ == "__main__":
    main()
