"""handler.py, called as the toolkit of Inference Endpoints does it: loaded from the model's folder.

The toolkit (huggingface_inference_toolkit, utils.py) imports the file by its path, makes
`EndpointHandler(folder)`, and calls it with {"inputs": bytes or a string, "parameters": {...}}.
"""

import base64
import importlib.util
import io
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
from music_genre.wav import to_pcm16, wav_bytes

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg here")
STEEP = 500  # else random weights give all windows the same probabilities


@pytest.fixture(scope="module")
def handler(tiny_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("endpoint") / "repository"
    shutil.copytree(tiny_classifier, folder)
    shutil.copyfile(HANDLER, folder / "handler.py")
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["handler"] = module
    spec.loader.exec_module(module)
    handler = module.EndpointHandler(str(folder))
    handler.classify.model.classifier.weight.data *= STEEP
    return handler


def scores(answer: list[dict]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in answer}


@pytest.mark.parametrize(
    ("seconds", "rate"), [(2.05, 16_000), (0.4, 16_000), (3.3, 44_100), (17.3, 16_000)]
)
def test_it_answers_as_the_demo_does(handler, tiny_classifier, tmp_path, seconds, rate):
    """Windows of 1 s: two, a file that is shorter than one, stereo to resample, two batches."""
    samples = np.stack([synthesise("jazz", 1, seconds, rate)] * 2, axis=1)
    path = tmp_path / "song.flac"
    soundfile.write(path, samples, rate)
    answer = handler({"inputs": path.read_bytes()})
    classifier = GenreClassifier(tiny_classifier, precision="fp32")
    classifier.model.classifier.weight.data *= STEEP
    expected = classifier(path).probabilities
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


def test_of_a_long_file_the_beginning_is_used(handler, song, monkeypatch):
    module = sys.modules[type(handler).__module__]
    whole = module.decode(song.read_bytes(), 16_000)
    monkeypatch.setattr(module, "MAX_SECONDS", 2)
    start = module.decode(song.read_bytes(), 16_000)
    assert len(whole) == 12 * 16_000 and len(start) == 2 * 16_000
    assert start == pytest.approx(whole[: len(start)], abs=0.01)


NOISE = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
NAN = io.BytesIO()
soundfile.write(NAN, np.where(NOISE > 3, np.nan, NOISE), 16_000, subtype="FLOAT", format="WAV")


@pytest.mark.parametrize(
    "inputs",
    [b"", b"no audio " * 50, wav_bytes(to_pcm16(NOISE[:1_000]), 16_000), NAN.getvalue(),
     "/etc/passwd", "http://x/y.mp3", None],
)  # fmt: skip
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
