"""Launching the page."""

import pytest

from music_genre.demo.server import serve


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
