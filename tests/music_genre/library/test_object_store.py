"""A library in an object store: on the stand-in Hub over HTTP, and in fsspec's memory."""

import os

import fsspec
import pytest

from music_genre import __main__ as command
from music_genre.errors import InputError
from music_genre.library.files import find_files
from music_genre.library.object_store import read_object
from tests.commands import client_of, run_here
from tests.hub import HubDouble
from tests.music_genre.library.conftest import n_part_rows

URL = "memory://bucket/music"


@pytest.fixture
def bucket(music):
    """The small library as objects."""
    filesystem = fsspec.filesystem("memory")
    for path in music.rglob("*.*"):
        name = path.relative_to(music).as_posix()
        filesystem.pipe_file(f"/bucket/music/{name}", path.read_bytes())
    yield filesystem
    filesystem.rm("/bucket", recursive=True)


def test_the_rows_are_those_of_the_files_here_and_are_made_once(
    bucket, music, scan_to, stub, tmp_path
):
    here = scan_to(tmp_path / "here.parquet", music)
    output = tmp_path / "there.parquet"
    assert scan_to(output, f"{URL}/") == here
    assert "1 .jpg" in scan_to.said
    assert scan_to(output, URL) == here
    assert "14 of them known" in scan_to.said
    assert n_part_rows(output) == len(here)


def test_an_object_that_changed_is_processed_again(bucket, scan_to, tmp_path):
    output = tmp_path / "out.parquet"
    before = {row["path"]: row for row in scan_to(output, URL)}
    bucket.copy("/bucket/music/album 1/7.flac", "/bucket/music/album 0/4.flac")
    bucket.copy("/bucket/music/album 0/2.ogg", "/bucket/music/album 1/9.wav")  # the same again
    bucket.copy("/bucket/music/album 1/9.wav", "/bucket/music/album 0/2.ogg")
    bucket.rm("/bucket/music/click.wav")
    after = {row["path"]: row for row in scan_to(output, URL)}
    changed = {path for path in before if after.get(path) != before[path]}
    assert changed == {"album 0/4.flac", "album 1/9.wav", "click.wav"}
    assert "1 files had another time, but the same content" in scan_to.said


def test_bins_patterns_and_hidden_objects_are_left_out(bucket):
    for name in ("@eaDir/a.mp3", ".trash/x/a.mp3", "Podcasts/b.mp3", "live/Podcasts/c.mp3"):
        bucket.pipe_file(f"/bucket/music/{name}", b"x")
    found = find_files([URL], exclude=["Podcasts/", "album 1", "*.flac"])
    names = ("0.wav", "2.ogg", "6.wav", "8.ogg")
    paths = [*(f"album 0/{name}" for name in names), "click.wav", "letter.mp3"]
    assert found.files["path"].to_pylist() == paths
    assert found.location("album 0/0.wav") == "/bucket/music/album 0/0.wav"


def test_an_object_that_cannot_be_read_this_time_is_tried_again(
    bucket, scan_to, tmp_path, monkeypatch
):
    output, real = tmp_path / "out.parquet", type(bucket).cat_file

    def refuse(self, path, *args, **options):
        if path.endswith("0.wav"):
            raise LookupError("the store is busy")
        return real(self, path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "cat_file", refuse)
        errors = {row["path"]: row["error"] for row in scan_to(output, URL)}
    assert errors["album 0/0.wav"] == "it cannot be read: LookupError: the store is busy"
    rows = {row["path"]: row for row in scan_to(output, URL)}
    assert rows["album 0/0.wav"]["genre"]
    with pytest.raises(FileNotFoundError):
        read_object(URL, "/bucket/music/nothing.wav")


def test_objects_have_any_name_and_need_no_size(bucket, scan_to, tmp_path, monkeypatch):
    data = bucket.cat_file("/bucket/music/album 1/9.wav")
    names = ("Artist :: Title [live].wav", "sub/d.wav", "a?b#c %20*.wav")
    for name in names:
        bucket.pipe_file(f"/bucket/music/odd/{name}", data)
    real = type(bucket).find

    def find(self, *args, **options):
        found = real(self, *args, **options)
        return {name: about | {"size": None} for name, about in found.items()}

    monkeypatch.setattr(type(bucket), "find", find)
    url, output = f"{URL}/odd", tmp_path / "out.parquet"
    rows = {row["path"]: row for row in scan_to(output, url)}
    assert sorted(rows) == sorted(names)
    assert all(row["genre"] for row in rows.values())
    bucket.pipe_file(f"/bucket/music/odd/{names[0]}", data[: len(data) // 2 * 2 - 8000])
    after = {row["path"]: row for row in scan_to(output, url)}
    assert "2 of them known" in scan_to.said
    assert after[names[0]]["duration"] < rows[names[0]]["duration"]


@pytest.mark.parametrize(
    ("roots", "message"),
    [
        (["nothing://bucket/music"], "nothing://bucket/music cannot be listed: Protocol not known"),
        (["memory://bucket/nowhere"], "There are no audio files in memory://bucket/nowhere"),
        ([URL, "."], "in an object store is scanned alone"),
    ],
)
def test_what_cannot_be_listed_is_one_sentence(roots, message):
    with pytest.raises(InputError, match=message):
        find_files(roots)


def test_only_scan_takes_a_url_and_only_for_its_music(tmp_path):
    table = tmp_path / "t.csv"
    for arguments, message in (
        (["scan", URL, "--model", "m", "--output", f"{URL}/t.csv"], "written to this machine"),
        (["tag", URL, "--table", table], f"there is no file or folder {URL}"),
    ):
        run = run_here(command.main, *arguments)
        assert run.returncode == 2 and message in run.stderr


def test_a_dataset_on_the_hub_is_scanned_over_http(music, tiny_classifier, tmp_path):
    files = {
        f"songs/{path.relative_to(music).as_posix()}": path.read_bytes()
        for path in sorted(music.rglob("*.*"))
    }
    with HubDouble(tmp_path / "hub") as hub:
        hub.push("you/music", files, kind="datasets")
        environment = os.environ | hub.environment(tmp_path / "home")
        options = ["--model", tiny_classifier, "--device", "cpu", "--output"]
        with client_of(environment):
            tables = []
            for root in ("hf://datasets/you/music/songs", music):
                output = tmp_path / f"{len(tables)}.csv"
                run = run_here(
                    command.main, "scan", root, *options, output, environment=environment
                )
                assert not run.returncode, run.stderr
                tables.append(output.read_text())
            assert tables[0] == tables[1]
            secret = run_here(
                command.main, "scan", "hf://datasets/you/none", *options, tmp_path / "no.csv",
                environment=environment,
            )  # fmt: skip
    assert secret.returncode == 2
    assert "hf://datasets/you/none cannot be listed: " in secret.stderr
