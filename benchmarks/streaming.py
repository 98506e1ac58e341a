"""How fast a stream of MP3 clips turns into crops for training, and what FMA-large would take.

    python benchmarks/streaming.py

Synthesised clips of 30 s as MP3 in Parquet shards go through the loader that `train_hf.py
--streamed True` uses, in one process. FMA-large (106,574 clips of 30 s) is that rate scaled up.
"""

import io
import resource
import sys
import tempfile
import time
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

N_CLIPS, N_SHARDS, SECONDS, RATE = 300, 4, 30.0, 44_100
FMA_LARGE = 106_574  # clips (Defferrard et al., ISMIR 2017)


def write_shards(folder: Path) -> float:
    """Parquet files for train and validation; returns the megabytes of a clip."""
    from datasets import Audio, ClassLabel, Dataset, Features

    from data_prep.gtzan import GENRES
    from data_prep.synthetic import synthesise

    takes = []
    for genre in GENRES:
        buffer = io.BytesIO()
        soundfile.write(buffer, synthesise(genre, 0, SECONDS, RATE), RATE, format="MP3")
        takes.append(buffer.getvalue())
    rows = [
        {"audio": {"bytes": takes[i % 10], "path": f"{i}.mp3"}, "genre": i % 10}
        for i in range(N_CLIPS)
    ]
    features = Features(audio=Audio(), genre=ClassLabel(names=list(GENRES)))
    for i in range(N_SHARDS):
        shard = Dataset.from_list(rows[i::N_SHARDS], features=features)
        shard.to_parquet(folder / f"train-{i:05d}-of-{N_SHARDS:05d}.parquet")
    Dataset.from_list(rows[:10], features=features).to_parquet(folder / "validation.parquet")
    return sum(map(len, takes)) / len(takes) / 1e6


def main() -> None:
    from music_genre.data import load_data
    from music_genre.streaming import StreamedCrops
    from music_genre.trainer import Augmentation

    with tempfile.TemporaryDirectory() as name:
        megabytes = write_shards(Path(name))
        clips, _ = load_data(name, "", 0, streamed=True)
        crops = StreamedCrops(clips["train"], 48_000, 0, Augmentation(0.4, speed=True, masks=True))
        start = time.perf_counter()
        n_crops = sum(1 for _ in crops)
        rate = N_CLIPS / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{rate:.1f} clips/s ({n_crops} crops of 3 s), peak {peak:.2f} GB, one process")
    print(
        f"FMA-large, an epoch: {FMA_LARGE / rate / 3600:.1f} hours of one core for input, "
        f"{FMA_LARGE * megabytes / 1000:.0f} GB through the network, none on disk; prepared to WAV "
        f"it would be {FMA_LARGE * 0.96 / 1000:.0f} GB"
    )


if __name__ == "__main__":
    main()
