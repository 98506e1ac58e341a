"""Damage audio files of all formats at random; compare with what FFmpeg's command line plays.

    python tests/music_genre/fuzz_decoders.py --mutations 200

Each file is decoded in a decoder process. It prints, by format, the share of files that give at
least 90 % of the seconds that `ffmpeg` gives, and fails if one is below 99 %, or if a decoder
process ends. A file of which less than half is left may be refused. The n-th file is the same in
every run.
"""

import argparse
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from music_genre.audio import AudioError, decode
from music_genre.isolation import DecoderError, DecoderPool, result

RATE, SECONDS, TIMEOUT = 22_050, 10, 60
FORMATS = {  # how a file's name ends, and FFmpeg's options
    "wav": [],
    "aiff": [],
    "flac": [],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "mp3": ["-b:a", "128k"],
    "m4a": ["-c:a", "aac", "-movflags", "faststart"],
    "mp4": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "1000000"],
    "aac": ["-c:a", "aac"],
    "webm": ["-c:a", "libopus"],
    "wma": ["-c:a", "wmav2"],
    "ac3": ["-c:a", "ac3"],
    "wv": ["-c:a", "wavpack"],
}
JUNK = (b"\n", bytes(30), bytes(100_000), b"TAG" + bytes(125), b"some text " * 50)


def music() -> np.ndarray:
    """Chords with some noise; float32, shape (samples, 2)."""
    rng, t = np.random.default_rng(0), np.arange(SECONDS * RATE) / RATE
    hertz = rng.choice([220.0, 277.2, 329.6, 440.0, 554.4], (SECONDS * 4, 3)).repeat(RATE // 4, 0)
    chords = np.sin(2 * np.pi * hertz * t[: len(hertz), None]).sum(1)
    left = 0.2 * chords + 0.02 * rng.standard_normal(len(chords))
    return np.stack([left, 0.7 * left], axis=1).astype(np.float32)


def whole_files(formats: list[str]) -> dict[str, bytes]:
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.wav"
        soundfile.write(source, music(), RATE)
        for name in formats:
            path = Path(folder) / f"whole.{name}"
            command = ["ffmpeg", "-v", "error", "-i", source, *FORMATS[name], path]
            subprocess.run(command, check=True)
            files[name] = path.read_bytes()
    return files


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One or two things that happen to files: damage, gaps, insertions, junk, an early end."""
    for _ in range(rng.integers(1, 3)):
        at, length = int(rng.integers(0, len(data))), int(rng.choice([1, 4, 64, 400, 4000]))
        before, after = data[:at], data[at:]
        data = (
            before + rng.bytes(length) + after[length:],
            before + bytes(length) + after[length:],
            before + rng.bytes(length) + after,
            before + after[length:],
            data[: len(data) * int(rng.integers(60, 100)) // 100],
            data + JUNK[rng.integers(len(JUNK))],
        )[rng.integers(6)]
    return data


def ffmpeg_seconds(path: Path) -> float:
    command = ["ffmpeg", "-v", "quiet", "-i", path, "-map", "0:a:0", "-f", "s16le", "-ac", "1"]
    done = subprocess.run([*command, "-ar", "16000", "-"], capture_output=True, timeout=TIMEOUT)
    return len(done.stdout) / 32_000


def compare(pool, path: Path) -> tuple[float, float, str]:
    """Seconds that are decoded here, those that FFmpeg gives, and what was said."""
    expected = ffmpeg_seconds(path)
    try:
        decoded = result(pool.schedule(decode, args=[str(path), 16_000], timeout=TIMEOUT))
    except AudioError as error:
        is_end = isinstance(error, DecoderError)
        return 0.0, expected, f"END {error}" if is_end else str(error)
    return len(decoded.waveform) / 16_000, expected, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=200, help="of each format")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--keep", type=Path, help="a folder for files that give too little")
    arguments = parser.parse_args()
    is_good = True
    files = whole_files(arguments.formats)
    with (
        tempfile.TemporaryDirectory() as folder,
        DecoderPool(num_processes=2) as pool,
        ThreadPoolExecutor(2) as threads,
    ):
        for name, whole in files.items():
            paths = []
            for seed in range(arguments.mutations):
                paths.append(Path(folder) / f"{seed}.{name}")
                paths[-1].write_bytes(mutate(whole, np.random.default_rng(seed)))
            found = list(threads.map(lambda path: compare(pool, path), paths))
            less = [
                (path, *one)
                for path, one in zip(paths, found, strict=True)
                if one[0] < 0.9 * one[1] and one[1] > SECONDS / 2
            ]
            share, ends = 1 - len(less) / len(found), sum(one[2][:3] == "END" for one in found)
            refused = sum(bool(one[2]) for one in found)
            print(
                f"{name:5} {share:6.1%} of {len(found)}; {refused} refused, {ends} ended a process"
            )
            is_good &= share >= 0.99 and not ends
            for path, here, there, said in less + [
                (path, *one) for path, one in zip(paths, found, strict=True) if one[2][:3] == "END"
            ]:
                print(f"      {path.name}: {here:.1f} s of {there:.1f} s {said}", flush=True)
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / path.name).write_bytes(path.read_bytes())
            for path in paths:
                path.unlink()
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
