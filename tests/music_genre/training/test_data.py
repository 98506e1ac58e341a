"""Datasets that data_prep did not make: another column name, rate, no splits, and no torchcodec."""

import io
import sys

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from music_genre import audio
from music_genre.errors import InputError
from music_genre.training.data import find_archive, load_data


def clip(i: int, sampling_rate: int = 8_000) -> bytes:
    tone = 0.4 * np.sin(2 * np.pi * (200 + 10 * i) * np.arange(2 * sampling_rate) / sampling_rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, sampling_rate, format="FLAC")
    return buffer.getvalue()


def foreign_dataset(n: int = 40) -> Dataset:
    features = Features(audio=Audio(), label=ClassLabel(names=["low", "high"]), id=Value("int64"))
    rows = [
        {"audio": {"bytes": clip(i), "path": f"song{i}.flac"}, "label": i % 2, "id": i}
        for i in range(n)
    ]
    return Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema))


@pytest.fixture
def without_torchcodec(monkeypatch):
    for name in ("torchcodec", "torchcodec.encoders", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("datasets.config.TORCHCODEC_AVAILABLE", False)


def test_a_foreign_dataset_is_brought_to_form(tmp_path, without_torchcodec):
    DatasetDict(train=foreign_dataset()).save_to_disk(tmp_path / "foreign")
    dataset, source = load_data(str(tmp_path / "foreign"), "filtered", seed=0)
    assert {name: len(split) for name, split in dataset.items()} == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }
    assert (source.split, source.leakage, source.is_synthetic) == ("random", None, False)
    row = dataset["train"][0]
    assert dataset["train"].features["genre"].names == ["low", "high"]
    assert row["track_id"].startswith("song")
    info = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert audio.n_samples(row["audio"]["bytes"]) == 32_000


def test_its_own_splits_are_kept(tmp_path):
    parts = DatasetDict(
        train=foreign_dataset(20), validation=foreign_dataset(6), test=foreign_dataset(8)
    )
    parts.save_to_disk(tmp_path / "foreign")
    dataset, source = load_data(str(tmp_path / "foreign"), "filtered", seed=0)
    assert [len(split) for split in dataset.values()] == [20, 6, 8]
    assert source.split == "its own"


def test_what_is_missing_is_said(tmp_path):
    DatasetDict(train=foreign_dataset().remove_columns("label")).save_to_disk(tmp_path / "foreign")
    with pytest.raises(InputError, match=r"a column `audio` and a ClassLabel.*it has audio, id"):
        load_data(str(tmp_path / "foreign"), "filtered", seed=0)


def test_the_newest_archive_in_data_is_found_but_not_our_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_archive() is None
    with pytest.raises(InputError, match="There is no GTZAN archive in data/"):
        load_data(None, "filtered", seed=0)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic.zip").write_bytes(b"")
    assert find_archive() is None
    (tmp_path / "data" / "GTZAN Genre Collection.zip").write_bytes(b"")
    assert find_archive().name == "GTZAN Genre Collection.zip"
