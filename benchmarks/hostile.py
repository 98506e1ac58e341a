"""What the largest of hostile files cost: seconds, and memory at the peak.

    python benchmarks/hostile.py --model runs/quickstart

Each goes through `uploads.classify_file` in a process of its own, beside one short song for
comparison; then 500 MB are uploaded to a running page, which must refuse them. The small ones,
hundreds, are in tests/hostile_inputs.py.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page_client import ROOT, Visitor, serving
from tests.hostile_inputs import by_pyav, tone

HOURS = 2 * 2**30 / 2 / 44_100 / 3600  # of 2 GB of 16-bit zeros
UPLOAD = 500 * 2**20  # bytes
ONE = """
import json, resource, sys, time
from music_genre.errors import InputError
from music_genre.demo import uploads
from music_genre.classifier import GenreClassifier
classifier, start = GenreClassifier(sys.argv[1], device="cpu"), time.monotonic()
try:
    outcome = uploads.classify_file(classifier, sys.argv[2]).as_html()[0].split("<")[-3][-40:]
except InputError as error:
    outcome = str(error)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.monotonic() - start, peak, outcome]))
"""


def flac(path: Path, block: np.ndarray, rate: int, hours: float) -> None:
    """block: one second; float32, shape (rate, channels)."""
    with soundfile.SoundFile(path, "w", rate, block.shape[1], format="FLAC") as file:
        for _ in range(int(hours * 3600)):
            file.write(block)


def mp3(path: Path, hours: float) -> None:
    """Of zeros: one frame of 1,152 samples, again and again."""
    import av

    zeros = by_pyav(np.zeros(44_100, np.float32), "mp3", "libmp3lame", 44_100, 32_000)
    with av.open(io.BytesIO(zeros)) as source:
        frames = [bytes(packet) for packet in source.demux(audio=0)]
    path.write_bytes(frames[len(frames) // 2] * int(hours * 3600 * 44_100 / 1152))


def webm(path: Path, hours: float) -> None:
    """Of zeros: one packet of 20 ms, again and again."""
    import av

    zeros = io.BytesIO(by_pyav(np.zeros(48_000, np.float32), "webm", "libopus", 48_000))
    with av.open(zeros) as source, av.open(str(path), "w") as output:
        packet = bytes(next(source.demux(audio=0)))
        stream = output.add_stream_from_template(source.streams.audio[0])
        for i in range(int(hours * 3600 * 50)):
            copy = av.Packet(packet)
            copy.stream, copy.time_base = stream, Fraction(1, 1000)
            copy.pts = copy.dts = 20 * i
            output.mux(copy)


def make(folder: Path) -> list[Path]:
    one = tone(44_100, 1.0)[:, None]
    makers = {
        "a song of 15 s.flac": lambda path: flac(path, one, 44_100, 15 / 3600),
        "3 hours.flac": lambda path: flac(path, one, 44_100, 3.0),
        "15 minutes, 8 channels, 192 kHz.flac": lambda path: flac(
            path, np.tile(tone(192_000, 1.0)[:, None], 8), 192_000, 0.25
        ),
        "2 GB of zeros.flac": lambda path: flac(path, 0 * one, 44_100, HOURS),
        "2 GB of zeros.mp3": lambda path: mp3(path, HOURS),
        "2 GB of zeros.webm": lambda path: webm(path, HOURS),
    }
    for name, maker in makers.items():
        maker(folder / name)
    return [folder / name for name in makers]


def upload(model: str, folder: Path) -> str:
    """How the page takes too large a file."""
    large = folder / "large.wav"
    with large.open("wb") as file:
        file.truncate(UPLOAD)
    with serving(model, folder) as server, large.open("rb") as content:
        before, start = server.resident(), time.monotonic()
        try:
            Visitor(server.address).upload("large.wav", content)
            outcome = "taken"
        except httpx.HTTPStatusError as error:
            outcome = f"refused with {error.response.status_code}"
        except httpx.TransportError as error:
            outcome = f"refused: {error}"
        seconds, kept = time.monotonic() - start, sum(p.stat().st_size for p in server.files())
        grown = server.resident() - before
        return f"{outcome} after {seconds:.1f} s, server {grown:+.0f} MB, {kept / 1e6:.0f} MB kept"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model's folder")
    arguments = parser.parse_args()
    model = str(Path(arguments.model).resolve())
    with tempfile.TemporaryDirectory() as folder:
        print("| file | MB | seconds | peak MB | outcome |")
        print("| --- | ---: | ---: | ---: | --- |", flush=True)
        for path in make(Path(folder)):
            command = [sys.executable, "-c", ONE, model, path]
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            size = path.stat().st_size / 1e6
            if run.returncode:
                print(f"| {path.name} | {size:.1f} | | | CRASHED: {run.stderr[-200:]!r} |")
                continue
            seconds, peak, outcome = json.loads(run.stdout)
            row = f"| {path.name} | {size:.1f} | {seconds:.1f} | {peak:.0f} | {outcome} |"
            print(row, flush=True)
        print(f"500 MB uploaded: {upload(model, Path(folder))}")


if __name__ == "__main__":
    main()
