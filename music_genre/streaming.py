"""Training on more clips than a disk holds: crops from a stream of shards, shuffled on the way.

The stream is a dataset on the Hub, or a folder of Parquet files. Each process reads shards of its
own; each clip stays for a while in a pool that crops, and their partners in mixup, are drawn from.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data_prep import audio
from music_genre.trainer import Augmentation, draw

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

POOL = 256  # clips: 250 MB of 30 s each
SHUFFLED = 500  # undecoded clips behind which the order of the shards cannot be told
SAMPLE = 500  # clips that the head is fitted on


class StreamedCrops(torch.utils.data.IterableDataset):
    """Crops of streamed clips. An epoch is once through the audio, in another order each time.

    Args:
        clips: with the columns audio (WAV bytes) and genre, as `data.stream` gives them.
        window: samples.
        rank, world_size: of this process, which hears every `world_size`-th shard, or clip where
            there are fewer shards than processes.
    """

    def __init__(
        self,
        clips: "IterableDataset",
        window: int,
        seed: int,
        augmentation: Augmentation,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.clips, self.window, self.seed, self.epoch = clips, window, seed, 0
        self.augmentation, self.rank, self.world_size = augmentation, rank, world_size
        self.n_labels = clips.features["genre"].num_classes

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from datasets.distributed import split_dataset_by_node

        rng = np.random.default_rng((self.seed, self.epoch, self.rank))
        shuffled = self.clips.shuffle(seed=self.seed, buffer_size=SHUFFLED)
        shuffled.set_epoch(self.epoch)
        stream = iter(split_dataset_by_node(shuffled, self.rank, self.world_size))
        pool = list(islice(stream, POOL))
        for clip in pool.copy():
            yield from self._crops(pool, clip, rng)
        for clip in stream:
            pool[rng.integers(len(pool))] = clip
            yield from self._crops(pool, clip, rng)

    def _crops(
        self, pool: list[dict], clip: dict, rng: np.random.Generator
    ) -> Iterator[dict[str, Any]]:
        """As many crops from the pool as windows fit into the clip that just came in."""

        def any_of_pool() -> dict:
            return pool[rng.integers(len(pool))]

        for _ in range(max(1, round(audio.n_samples(clip["audio"]["bytes"]) / self.window))):
            yield draw(
                any_of_pool(), any_of_pool, self.window, self.n_labels, self.augmentation, rng
            )

    def sample(self) -> "Dataset":
        """The first clips of a shuffled stream, as a dataset in memory."""
        from datasets import Dataset

        shuffled = self.clips.shuffle(seed=self.seed, buffer_size=SHUFFLED)
        return Dataset.from_list(list(islice(shuffled, SAMPLE)), features=self.clips.features)
