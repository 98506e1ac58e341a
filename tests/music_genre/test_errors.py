"""What commands print around errors."""

import io
import sys

import pytest

from music_genre.errors import InputError, exit_with_message, first_line


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (InputError("It is wrong."), 2, "error: It is wrong.\n"),
        (OSError("The disk is full."), 2, "error: The disk is full.\n"),
        (KeyboardInterrupt(), "\nStopped.", ""),  # Python prints such a code, and exits with 1
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(error, code, printed, capsys):
    with pytest.raises(SystemExit) as ended, exit_with_message("Stopped.", OSError):
        raise error
    assert (ended.value.code, capsys.readouterr().err) == (code, printed)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(OSError("It broke.\nAt line 3"), "It broke."), (AssertionError(), "AssertionError")],
)
def test_of_an_error_of_many_lines_or_none_one_line_is_said(error, expected):
    assert first_line(error) == expected


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_name_that_is_no_text_is_printed_with_escapes(monkeypatch, stream):
    """Such a file's line ended `music-genre classify` before the files after it."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(printed, "utf-8", write_through=True))
    with exit_with_message("Stopped."):
        print("\udcff.wav: jazz 90%", file=getattr(sys, stream))
    assert printed.getvalue() == b"\\udcff.wav: jazz 90%\n"
