"""Pulling a published model: cold cache, no network, a cut download, the snippets of the card."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import HfApi

from data_prep.synthetic import synthesise
from music_genre import GenreClassifier
from tests import python
from tests.commands import client_of
from tests.hub import Fault
from tests.music_genre.publishing.clients import (
    WEIGHTS,
    environment,
    push_here,
    sha256,
)

PULL = """
import hashlib, json, sys
import numpy as np
from huggingface_hub import ModelCard, hf_hub_download
from transformers import pipeline
from music_genre import GenreClassifier

noise = np.load("noise.npy")
classify = pipeline("audio-classification", model="you/pulled", revision="v1", top_k=None)
card = ModelCard.load(hf_hub_download("you/pulled", "README.md"))
weights = hf_hub_download("you/pulled", "model.safetensors", revision="v1")
print(json.dumps({
    "classifier": GenreClassifier("you/pulled", revision="v1")(noise, 16_000).probabilities,
    "newest": GenreClassifier("you/pulled")(noise, 16_000).probabilities,
    "pipeline": {answer["label"]: answer["score"] for answer in classify(noise)},
    "sha256": hashlib.sha256(open(weights, "rb").read()).hexdigest(),
    "card": [card.text.strip().splitlines()[0], card.data.pipeline_tag],
    "torch": sorted(m for m in sys.modules if m.startswith("transformers_modules")),
}))
"""


def test_pulled_on_a_cold_cache_and_again_without_network(hub, finished, tmp_path):
    """v1 is the first commit; the weights of the second are others. The first download is cut."""
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    assert push_here(hub, tmp_path / "home", finished, "you/pulled").returncode == 0
    with client_of(environment(hub, tmp_path / "home")):
        HfApi().create_tag("you/pulled", tag="v1")
    content = (finished / WEIGHTS).read_bytes()
    other = content[:-400] + bytes(400)
    files = hub.commits("you/pulled")[-1]["files"] | {WEIGHTS: hub.storage.lfs(other)}
    hub.storage.commit(hub.storage.load("models", "you/pulled"), "other weights", files)

    hub.faults.append(Fault("GET", f"/storage/lfs/{sha256(content)}", cut_after=3000, times=1))
    online = python.run(["-c", PULL], environment(hub, tmp_path / "home"), tmp_path)
    assert online.returncode == 0, online.stderr[-3000:]
    answer = json.loads(online.stdout)
    assert len(hub.sent("GET", f"/storage/lfs/{sha256(content)}")) == 2
    expected = GenreClassifier(finished)(noise, 16_000).probabilities
    assert answer["sha256"] == sha256(content)
    assert answer["classifier"] == pytest.approx(expected, abs=1e-6)
    assert answer["pipeline"] == pytest.approx(expected, abs=1e-6)
    assert answer["newest"] != pytest.approx(expected, abs=1e-6)
    assert answer["torch"] == [], "no code of the repository is run"
    assert answer["card"] == ["# pulled", "audio-classification"]

    cut_off = environment(hub, tmp_path / "home", HF_ENDPOINT="http://127.0.0.1:9")
    offline = python.run(["-c", PULL], cut_off, tmp_path)
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert json.loads(offline.stdout) == answer


def snippets_of(folder: Path, n: int) -> list[str]:
    """The Python of a card, of which windows by hand come first."""
    found = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(found) == n and "n_windows" in found[0]
    return found


def test_the_snippets_of_the_card_give_what_the_classifier_gives(pushed, finished, tmp_path):
    """The first one also for a file that is shorter than a window, and one to resample."""
    first, by_classifier, by_onnx = snippets_of(finished, 3)
    (tmp_path / "snippet.py").write_text(first)
    in_turn, expected = ["import runpy, shutil"], []
    for seconds, rate, channels in ((0.4, 16_000, 1), (3.3, 44_100, 2), (1.0, 16_000, 1)):
        waveform = synthesise("jazz", 1, seconds, rate).astype(np.float32)
        samples = np.stack([waveform, 0.5 * waveform][:channels], axis=1)
        song = tmp_path / f"{seconds}.wav"
        soundfile.write(song, samples, rate, subtype="FLOAT")
        in_turn.append(f"shutil.copy('{song.name}', 'song.wav'); runpy.run_path('snippet.py')")
        expected.append(GenreClassifier(finished)(song))
    script = "\n".join([*in_turn, by_classifier, by_onnx])  # the last file has one window
    result = python.run(["-c", script], environment(pushed[0], tmp_path / "home"), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    *printed, by_classifier, by_onnx = result.stdout.splitlines()
    for line, answer in zip(printed, expected, strict=True):
        genre, _, probabilities = line.partition(" ")
        assert genre == answer.genre
        assert ast.literal_eval(probabilities) == pytest.approx(answer.probabilities, abs=1e-3)
    assert by_classifier.split()[0] == by_onnx == expected[-1].genre


# A root without any capability, which may not overwrite permissions either. The numbers are of
# capset(2): the third version of its header and the process itself; two sets of three.
LOAD_AS_PERMITTED = """
import ctypes
assert not ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
from music_genre import GenreClassifier
from music_genre.errors import exit_with_message
with exit_with_message("Stopped."):
    print(len(GenreClassifier("you/tiny").labels))
"""


@pytest.mark.parametrize("is_cold", [False, True])
def test_a_read_only_cache_serves_what_is_in_it(pushed, tmp_path, is_cold):
    hub, _ = pushed
    home = tmp_path / "home"
    home.mkdir()
    if not is_cold:
        with client_of(environment(hub, home)):
            GenreClassifier("you/tiny")
    for path in (home, *home.rglob("*")):
        path.chmod(0o555)
    result = python.run(["-c", LOAD_AS_PERMITTED], environment(hub, home), tmp_path)
    if is_cold:
        assert result.returncode == 2 and "Traceback" not in result.stderr
        assert re.search("^error: you/tiny cannot .*[Pp]ermission", result.stderr, re.M)
    else:
        assert (result.returncode, result.stdout) == (0, "10\n")
