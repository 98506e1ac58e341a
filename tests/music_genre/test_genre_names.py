"""What programs write for "no genre", and what people call one."""

import pytest

from music_genre.genre_names import is_no_genre

# The last line is what pandas reads as a missing value.
NO_GENRES = (
    "", " ", "-", "?", "()", "...", "Unknown", "<unknown>", "Unknown genre", "None", "No Genre",
    "Undefined", "N/A", "Genre", "Various", "Other", "other ", "Misc.",
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "1.#QNAN", "-NaN", "<NA>", "NA", "NULL", "NaN", "n/a",
)  # fmt: skip
GENRES = ("Blues", "R&B", "演歌", "8-bit", "80s", "(17)", "192", "Otherworldly", "Nil by mouth",
          "9" * 5000)  # fmt: skip


@pytest.mark.parametrize("text", NO_GENRES)
def test_words_for_nothing_are_no_genre(text):
    assert is_no_genre(text)


@pytest.mark.parametrize("text", GENRES)
def test_names_of_genres_are_genres(text):
    assert not is_no_genre(text)
