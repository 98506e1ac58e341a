"""handler.py, called as the toolkit of Inference Endpoints does it: loaded from the model's folder.

The toolkit (huggingface_inference_toolkit, utils.py) imports the file by its path, makes
`EndpointHandler(folder)`, and calls it with {"inputs": bytes or a string, "parameters": {...}}.
"""

import base64
import importlib.util
import json
import shutil
import sys
import tempfile

import av
import numpy as np
import pytest
import soundfile

from data_prep.synthetic import synthesise
from music_genre import GenreClassifier
from music_genre.publishing.hub import HANDLER

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg here")


@pytest.fixture(scope="module")
def handler(tiny_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("endpoint") / "repository"
    shutil.copytree(tiny_classifier, folder)
    shutil.copyfile(HANDLER, folder / "handler.py")
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["handler"] = module
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def scores(answer: list[dict]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in answer}


@pytest.mark.parametrize(("seconds", "rate"), [(2.6, 16_000), (0.4, 16_000), (3.3, 44_100)])
def test_it_answers_as_the_demo_does(handler, tiny_classifier, tmp_path, seconds, rate):
    """Windows of 1 s: several, a file that is shorter than one, and stereo to resample."""
    samples = np.stack([synthesise("jazz", 1, seconds, rate)] * 2, axis=1)
    path = tmp_path / "song.flac"
    soundfile.write(path, samples, rate)
    answer = handler({"inputs": path.read_bytes()})
    expected = GenreClassifier(tiny_classifier, precision="fp32")(path).probabilities
    assert scores(answer) == pytest.approx(expected, abs=1e-3)
    assert [row["score"] for row in answer] == sorted(scores(answer).values(), reverse=True)
    json.dumps(answer)


def test_base64_in_json_and_top_k(handler, song):
    content = song.read_bytes()
    coded = {"inputs": base64.b64encode(content).decode(), "parameters": {"top_k": 2}}
    assert handler(coded) == handler({"inputs": content})[:2]
    for parameters in ({"top_k": "2"}, [2], 2):
        with pytest.raises(ValueError, match="a whole number"):
            handler({"inputs": content, "parameters": parameters})


def test_an_m4a_with_its_index_at_the_end(handler, tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        samples = synthesise("pop", 1, 2.0, 16_000).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert sum(scores(handler({"inputs": path.read_bytes()})).values()) == pytest.approx(1)


@pytest.mark.parametrize("inputs", [b"", b"no audio " * 50, "/etc/passwd", "http://x/y.mp3", None])
def test_what_is_no_audio_is_one_sentence(handler, inputs):
    with pytest.raises(ValueError, match=r"^(It is not audio|inputs must be)"):
        handler({"inputs": inputs})


def test_a_script_of_other_files_is_not_followed(handler, song, monkeypatch):
    """ffmpeg would read the song beside it, whatever the name of the script says."""
    monkeypatch.setattr(tempfile, "tempdir", str(song.parent))
    script = f"ffconcat version 1.0\nfile {song.name}\n"
    with pytest.raises(ValueError, match="It is not audio"):
        handler({"inputs": script.encode()})


def test_a_file_that_takes_too_long_to_decode_is_one_sentence(handler, song, monkeypatch):
    module = sys.modules[type(handler).__module__]
    monkeypatch.setattr(module, "MAX_DECODING_SECONDS", 0.001)
    with pytest.raises(ValueError, match=r"^It takes more than 0\.001 s to decode\.$"):
        handler({"inputs": song.read_bytes()})
