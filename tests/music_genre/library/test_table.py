import json
from types import SimpleNamespace

import numpy as np
import pytest

from music_genre.library import batches, scan, table


def test_uncertainty_is_normalised_entropy():
    file = table.File("/a.mp3", 1, 2)

    def row(probabilities: list[float]) -> dict:
        prediction = batches.FilePrediction("/a.mp3", 1.0, 1.0, np.array(probabilities))
        return scan.to_row(file, prediction, ["a", "b", "c", "d"])

    assert row([0, 1, 0, 0])["uncertainty"] == 0
    assert row([0.25] * 4)["uncertainty"] == 1
    assert row([0.5, 0.5, 0, 0])["uncertainty"] == pytest.approx(0.5)
    assert row([0.1, 0.2, 0.3, 0.4])["genre"] == "d"


@pytest.mark.parametrize("year", [1999, 2099])
def test_a_clock_that_jumps_brings_no_old_row_back(tmp_path, monkeypatch, year):
    """The files' names, and so their order, have the time; a row may be temporary."""
    file, shard = table.File("/a.mp3", 1, 2), "00000-of-00001"
    entry = {"path": "/a.mp3", "size": 1, "mtime_ns": 2, "is_temporary": False}
    with table.LineWriter(tmp_path) as writer:
        final = writer.append(entry)
    name = writer.path.name.replace(writer.path.name[:4], str(year), 1)
    (tmp_path / name).write_text(json.dumps(entry | {"is_temporary": True}))
    assert table.read_rows(tmp_path, [file], shard) == {file: final}
    other = table.File("/a.mp3", 1, 3)
    assert table.read_rows(tmp_path, [other], shard) == {other: None}


def test_a_line_that_the_disk_has_no_room_for_is_an_error(tmp_path, monkeypatch):
    with table.LineWriter(tmp_path) as writer:
        monkeypatch.setattr(writer, "_file", SimpleNamespace(write=lambda line: 3))
        with pytest.raises(OSError, match="No space left"):
            writer.append({"path": "/a.mp3"})
        monkeypatch.undo()
