"""Launching the page."""

import os
from types import SimpleNamespace
from typing import ClassVar

import pytest

from music_genre.demo.server import delete_uploads, serve


class SlowPage:
    """Its server does not answer in time so many times."""

    blocks: ClassVar = {}

    def __init__(self, n_slow: int) -> None:
        self.n_slow, self.done = n_slow, []

    def launch(self, **options) -> str:
        self.done.append("launch")
        if self.done.count("launch") <= self.n_slow:
            raise ValueError("When localhost is not accessible, a shareable link must be created.")
        return options["server_port"]

    def close(self) -> None:
        self.done.append("close")


def test_a_server_that_is_slow_once_is_launched_again():
    page = SlowPage(1)
    assert serve(page, "uploads", server_port=7861) == 7861
    assert page.done == ["launch", "close", "launch"]


def test_a_server_that_never_answers_is_an_error():
    with pytest.raises(ValueError, match="localhost"):
        serve(SlowPage(2), "uploads", server_port=7861)


def test_uploads_that_come_while_others_are_deleted_do_not_stop_that(tmp_path, monkeypatch):
    files = [tmp_path / name / "song.wav" for name in "abc"]
    for file in files[:2]:
        file.parent.mkdir()
        file.touch()
    recorded = {str(file) for file in files[:2]}
    page = SimpleNamespace(temp_file_sets=[recorded, {*recorded}], blocks={})
    remove = os.remove

    def remove_during_an_upload(path) -> None:
        files[2].parent.mkdir(exist_ok=True)
        files[2].touch()
        recorded.add(str(files[2]))
        remove(path)

    monkeypatch.setattr(os, "remove", remove_during_an_upload)
    delete_uploads(page, tmp_path, age=-1)
    assert [file.parent.exists() for file in files] == [False, False, True]
    assert page.temp_file_sets == [{str(files[2])}, set()], "and they are forgotten"
    delete_uploads(page, tmp_path, age=60)
    assert files[2].exists(), "it is new"
    delete_uploads(page, tmp_path, age=-1)
    assert tmp_path.exists() and not any(tmp_path.iterdir())


def test_what_broke_off_is_deleted_and_what_the_page_keeps_stays(tmp_path):
    """gradio records neither; a part of an upload lies in its folder of uploads itself."""
    part, example = tmp_path / "tmpabc", tmp_path / "hash" / "jazz.ogg"
    example.parent.mkdir()
    for file in (part, example):
        file.touch()
    blocks = {1: SimpleNamespace(keep_in_cache={str(example)}), 2: SimpleNamespace()}
    delete_uploads(SimpleNamespace(temp_file_sets=[], blocks=blocks), tmp_path, age=-1)
    assert not part.exists() and example.exists()
