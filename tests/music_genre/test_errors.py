"""What commands print around errors."""

import io
import sys

from music_genre.errors import exit_with_message


def test_a_name_that_is_no_text_is_printed_with_escapes(monkeypatch):
    """Such a file's line ended `music-genre classify` before the files after it."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8", write_through=True))
    with exit_with_message("Stopped."):
        print("\udcff.wav: jazz 90%")
    assert printed.getvalue() == b"\\udcff.wav: jazz 90%\n"
