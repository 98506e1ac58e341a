"""Shares of a scan: every file is in one, wherever the folder is, and their tables are one."""

import shutil
import tracemalloc
from pathlib import Path

import datasets
import pytest

from music_genre.errors import InputError
from music_genre.library import scan as scanning
from music_genre.library import shards, table
from music_genre.library.shards import Shard, shard_of
from music_genre.library.table import FORMATS


def test_every_file_is_in_one_share_and_shares_are_alike():
    paths = [f"artist {i % 97}/album {i % 11}/{i}.mp3" for i in range(20_000)]
    counts = [sum(Shard(i, 16).has(path) for path in paths) for i in range(16)]
    assert sum(counts) == len(paths)
    assert 1100 < min(counts) <= max(counts) < 1400, "1,250 on average"
    assert all(map(Shard().has, paths[:10]))


def test_shares_are_the_same_wherever_the_folder_is(music, tmp_path):
    copy = shutil.copytree(music, tmp_path / "mounted elsewhere")
    single = music / "album 0" / "0.wav"
    for i in range(3):
        here, there = (scanning.find_files([root], Shard(i, 3)) for root in (music, copy))
        names = [Path(file.path).relative_to(music) for file in here]
        assert names == [Path(file.path).relative_to(copy) for file in there]
        nested = [music / "album 0", music, single, music / "album 1"]
        assert scanning.find_files(nested, Shard(i, 3)) == here, "a file has one name"
    alone = [scanning.find_files([single], Shard(i, 3)) for i in range(3)]
    assert sorted(map(len, alone)) == [0, 0, 1]


@pytest.mark.parametrize("suffix", FORMATS)
def test_tables_of_shards_are_merged_to_the_table_of_one_process(
    classifier, music, tmp_path, suffix
):
    output, whole = tmp_path / f"genres{suffix}", tmp_path / f"whole{suffix}"
    scanning.scan(classifier, [music], whole)
    for i in range(3):
        rows = scanning.scan(classifier, [music], output, shard=Shard(i, 3))
        assert len(rows) < 14
        assert (tmp_path / f"genres-0000{i}-of-00003{suffix}").exists()
    assert not output.exists()
    assert shards.merge(output) == 3
    if suffix == ".parquet":
        found = datasets.load_dataset(
            "parquet",
            data_files=str(tmp_path / "genres-*-of-00003.parquet"),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        )
        merged = table.parquet.read_table(output).to_pylist()
        assert merged == table.parquet.read_table(whole).to_pylist()
        assert sorted(found.to_list(), key=lambda row: row["path"]) == merged
    else:
        assert output.read_bytes() == whole.read_bytes()


def test_another_number_of_shards_does_the_rest(classifier, music, tmp_path, capsys):
    output = tmp_path / "genres.parquet"
    scanning.scan(classifier, [music], output, shard=Shard(1, 2))
    n_known = len(scanning.find_files([music], Shard(1, 2)))
    capsys.readouterr()
    scanning.scan(classifier, [music], output)
    assert f"14 audio files, {n_known} of them known" in capsys.readouterr().out


def test_a_share_without_files_is_a_table_without_rows(classifier, music, tmp_path):
    output, single = tmp_path / "genres.parquet", music / "album 0" / "0.wav"
    sizes = [len(scanning.scan(classifier, [single], output, shard=Shard(i, 2))) for i in (0, 1)]
    assert sorted(sizes) == [0, 1]
    shards.merge(output)
    assert len(table.parquet.read_table(output)) == 1


def test_merging_says_what_is_missing(tmp_path):
    output = tmp_path / "genres.jsonl"

    def write(i: int, n: int, revision: str = "a") -> None:
        row = {"path": f"/{i}", "model": revision, "revision": revision}
        table.write_table(Shard(i, n).table(output), [], [row])

    with pytest.raises(InputError, match=f"{tmp_path} has none"):
        shards.merge(output)
    write(0, 3)
    with pytest.raises(InputError, match=r"2 of 3 tables are not in .*-00001-of-00003\.jsonl"):
        shards.merge(output)
    write(1, 3)
    write(2, 3, "b")
    with pytest.raises(InputError, match="of two models, a and b"):
        shards.merge(output)
    assert not output.exists()
    write(0, 2)
    with pytest.raises(InputError, match="those of 2, 3 shards"):
        shards.merge(output)


def test_merging_takes_the_memory_of_some_rows(tmp_path):
    output, columns = tmp_path / "genres.parquet", table.columns_of(["jazz", "rock"])
    for i in range(4):
        rows = (
            dict.fromkeys(columns) | {"path": f"/{n:06d}/{i}.mp3", "revision": "a"}
            for n in range(10_000)
        )
        table.write_table(Shard(i, 4).table(output), columns, rows)
    tracemalloc.start()
    shards.merge(output)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    paths = table.parquet.read_table(output)["path"].to_pylist()
    assert paths == sorted(paths) and len(paths) == 40_000
    assert peak < 25e6


def test_a_launcher_names_the_share(monkeypatch):
    assert shard_of(None) == Shard()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert shard_of(None) == Shard(1, 2)
    assert shard_of("3/16") == Shard(3, 16)


@pytest.mark.parametrize("text", ["16/16", "3", "a/b", "-1/2", "0/0", "1/100000"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(InputError, match=f"--shard {text} is none: of 16 shares they are 0/16"):
        shard_of(text)
