"""A patch makes a file from another one, byte for byte, and is small."""

import json

import pytest

from music_genre.library import patches


@pytest.mark.parametrize(
    ("original", "tagged"),
    [
        (b"", b"tag"),
        (b"audio" * 99, b"tag" + b"audio" * 99),
        (b"tag" + b"audio" * 99, b"audio" * 99),
        (b"long tag" + b"audio" * 99 + b"old end", b"tag" + b"audio" * 99 + b"new end"),
        (b"a" * 500, b"a" * 7),
        (bytes(range(256)) * 9, bytes(range(256)) * 9),
    ],
)
@pytest.mark.parametrize("block", [7, patches.BLOCK])
def test_a_patch_makes_the_original(tmp_path, monkeypatch, block, original, tagged):
    monkeypatch.setattr(patches, "BLOCK", block)
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(original)
    b.write_bytes(tagged)
    patch = json.loads(json.dumps(patches.make_patch(str(a), str(b))))
    assert b"".join(patches.apply_patch(str(b), patch)) == original


def test_files_that_differ_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(patches, "MAX_PATCH", 10)
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * 10)
    b.write_bytes(b"y" * 10)
    patches.make_patch(str(a), str(b))
    a.write_bytes(b"x" * 11)
    b.write_bytes(b"y" * 11)
    with pytest.raises(patches.PatchError, match="over 10 bytes"):
        patches.make_patch(str(a), str(b))
