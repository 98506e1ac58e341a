"""report.json of other programs, which may lie beside a model from the Hub."""

import json

import pytest

from music_genre.report import gap_in, headline_split, read_report


@pytest.mark.parametrize("content", ["[1, 2]", "3", "null", "{", ""])
def test_what_is_no_report_is_none(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    assert read_report(tmp_path) is None


@pytest.mark.parametrize(
    "score",
    [
        0.93,
        "0.93",
        [0.93],
        {"accuracy": 0.9},
        {"n": 5, "per_genre": {}},
        {"n": 5, "per_genre": [["rock", 5]]},
        {"n": 5, "per_genre": {"rock": 0.9}},
        {"n": 5, "per_genre": {"rock": {"n": "many"}}},
        {"per_genre": {"rock": {"n": 9}}},
    ],
)
def test_a_report_without_counts_by_genre_has_no_headline(tmp_path, score):
    (tmp_path / "report.json").write_text(json.dumps({"test": score}))
    report = read_report(tmp_path)
    assert gap_in(report, "test") == "test split has no counts by genre"
    assert headline_split(report) is None
