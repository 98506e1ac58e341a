"""report.json of other programs, which may lie beside a model from the Hub."""

import pytest

from music_genre.report import read_report


@pytest.mark.parametrize("content", ["[1, 2]", "3", "null", "{", ""])
def test_what_is_no_report_is_none(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    assert read_report(tmp_path) is None
