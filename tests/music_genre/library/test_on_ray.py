"""`scan --ray`: its two stages here, and a scan on Ray where it is asked for.

WITH_RAY=1 python -m pytest tests/music_genre/library/test_on_ray.py, after pip install "ray[data]".
It takes a minute or more, which Ray needs to start.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pyarrow as pa
import pytest

from music_genre import __main__ as command
from music_genre.classifier import GenreClassifier
from music_genre.library import on_ray
from tests.pool_here import PoolHere


def test_without_ray_or_a_cluster_a_sentence_says_so(monkeypatch, capsys, music):
    arguments = ["scan", str(music), "--model", "m", "--output", "a.csv", "--ray", "127.0.0.1:9"]
    monkeypatch.setattr(sys, "argv", ["music-genre", *arguments])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert capsys.readouterr().err == 'error: --ray needs Ray: pip install "music-genre[ray]".\n'
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "error: There is no Ray cluster at 127.0.0.1:9: " in capsys.readouterr().err


def test_its_stages_make_the_rows_of_a_scan_here(
    monkeypatch, music, tiny_classifier, tmp_path, scan_to
):
    classifier = GenreClassifier(tiny_classifier, device="cpu")
    here = scan_to(tmp_path / "here.csv", music, classifier=classifier)
    monkeypatch.setattr(on_ray, "DecoderPool", PoolHere)
    window = int(classifier.window_seconds * classifier.sampling_rate)
    decoder = on_ray.Decoder(tiny_classifier, None, window, None)
    stage = on_ray.Classifier(tiny_classifier, None, "cpu")

    def by_stages(files):
        table = pa.table({"file": [json.dumps(file) for file in files]})
        prepared = pa.concat_tables(decoder(table))
        yield from map(json.loads, stage(prepared)["row"].to_pylist())

    rows = scan_to(tmp_path / "stages.csv", music, classifier=classifier, make_rows=by_stages)
    assert rows == here


# In all processes of Python: what reads such a file ends.
ENDING = """
import os, signal, sys

def end(event, arguments):
    if event == "open" and "crash.wav" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(end)
"""


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
@pytest.mark.skipif("WITH_RAY" not in os.environ, reason="WITH_RAY=1 starts Ray, for a minute")
def test_a_scan_on_ray_is_a_scan_here(music, tiny_classifier, tmp_path, root):
    library = shutil.copytree(music, tmp_path / "library")
    shutil.copy(library / "album 0" / "0.wav", library / "crash.wav")
    (tmp_path / "sitecustomize.py").write_text(ENDING)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "RAY_ADDRESS": "local"}
    tables = []
    for name, options in (("here.csv", []), ("ray.csv", ["--ray"])):
        start = [sys.executable, "-m", "music_genre", "scan", library, "--model", tiny_classifier]
        end = ["--output", tmp_path / name, "--device", "cpu", *options]
        assert not subprocess.run([*start, *end], cwd=root, env=environment).returncode
        tables.append((tmp_path / name).read_text())
    assert tables[0] == tables[1]
    assert "its decoder crashed (SIGSEGV)" in tables[0]
