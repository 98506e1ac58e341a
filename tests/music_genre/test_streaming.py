"""A stream of Parquet shards: heard once an epoch, shared out, and trained on like any other."""

import numpy as np
import pytest
from datasets import Audio, load_from_disk

import train_hf
from data_prep import InputError
from music_genre.data import load_data
from music_genre.streaming import StreamedCrops
from music_genre.trainer import Augmentation
from tests.test_train_hf import flags, read_report, train

WINDOW = 16_000


@pytest.fixture(scope="module")
def shards(prepared, tmp_path_factory):
    """The prepared dataset as a folder of Parquet files, four of them for train."""
    folder = tmp_path_factory.mktemp("shards")
    for name, split in load_from_disk(prepared).items():
        split = split.cast_column("audio", Audio(decode=False)).shuffle(seed=0)
        split = split.cast_column("audio", Audio())
        n_shards = 4 if name == "train" else 1
        for i in range(n_shards):
            split.shard(n_shards, i).to_parquet(
                folder / f"{name}-{i:05d}-of-{n_shards:05d}.parquet"
            )
    return folder


def crops(shards, rank: int = 0, world_size: int = 1, epoch: int = 0) -> list[dict]:
    clips, _ = load_data(str(shards), "filtered", 0, streamed=True)
    stream = StreamedCrops(clips["train"], WINDOW, 0, Augmentation(), rank, world_size)
    stream.epoch = epoch
    return list(stream)


def test_an_epoch_is_once_through_the_audio_and_each_is_another(shards):
    first, again, second = crops(shards), crops(shards), crops(shards, epoch=1)
    assert len(first) == 40 * 2  # clips of 2 s
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["crop"], other["crop"])
    assert any((a["crop"] != b["crop"]).any() for a, b in zip(first, second, strict=True))


def test_processes_hear_different_shards(shards):
    halves = [crops(shards, rank, world_size=2) for rank in range(2)]
    assert [len(half) for half in halves] == [40, 40]
    clips, _ = load_data(str(shards), "filtered", 0, streamed=True)
    stream = StreamedCrops(clips["train"], WINDOW, 0, Augmentation())
    assert len(stream.sample()) == 40


def test_it_trains_and_is_scored_as_ever(shards, prepared, tiny_config, tmp_path):
    options = flags(shards, tiny_config, tmp_path / "run", streamed=True, max_steps=12,
                    eval_strategy="steps", eval_steps=6, save_strategy="steps", save_steps=6,
                    mixup=0.4)  # fmt: skip
    train(*options)
    report = read_report(tmp_path / "run")
    assert report["train"]["steps"] == 12
    assert report["test"]["n"] == 10
    assert report["split"] == "its own"


def test_a_stream_needs_a_length(shards, tiny_config, tmp_path):
    with pytest.raises(InputError, match="--max_steps"):
        train(*flags(shards, tiny_config, tmp_path / "run", streamed=True))
    with pytest.raises(InputError, match="neither a file or folder here"):
        train_hf.load_data("nobody/nothing", "filtered", 0, streamed=True)
