"""Launching the page."""

import os
from types import SimpleNamespace

import pytest

from music_genre.demo.server import delete_uploads, serve


class SlowPage:
    """Its server does not answer in time so many times."""

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
    assert serve(page, server_port=7861) == 7861
    assert page.done == ["launch", "close", "launch"]


def test_a_server_that_never_answers_is_an_error():
    with pytest.raises(ValueError, match="localhost"):
        serve(SlowPage(2), server_port=7861)


def test_uploads_that_come_while_others_are_deleted_do_not_stop_that(tmp_path, monkeypatch):
    files = [tmp_path / name / "song.wav" for name in "abc"]
    for file in files:
        file.parent.mkdir()
        file.touch()
    uploads = {str(file) for file in files[:2]}
    page = SimpleNamespace(temp_file_sets=[uploads, {*uploads}], blocks={})
    remove = os.remove

    def remove_during_an_upload(path) -> None:
        uploads.add(str(files[2]))
        remove(path)

    monkeypatch.setattr(os, "remove", remove_during_an_upload)
    delete_uploads(page, age=-1)
    assert [file.parent.exists() for file in files] == [False, False, True]
    assert page.temp_file_sets == [{str(files[2])}, set()], "and they are forgotten"
    delete_uploads(page, age=60)
    assert files[2].exists(), "it is new"
