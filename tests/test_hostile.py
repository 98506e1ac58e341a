"""Hostile files: all of hostile_inputs.py, and some over HTTP to a running page."""

import json
import os
import urllib.error
import urllib.request
import uuid

import av
import pytest

from music_genre.classifier import GenreClassifier
from music_genre.demo.page import build
from music_genre.demo.server import serve
from tests import forked, hostile_audio, hostile_inputs


def test_each_ends_in_an_answer_or_a_sentence(tiny_classifier):
    """In a process of its own: a crash of a decoder must not end the tests."""
    command = ["tests/hostile_audio.py", "--model", tiny_classifier]
    result = forked.run(command, os.environ | {"OMP_NUM_THREADS": "1"}, timeout=500)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr  # nor in the server's log
    n_inputs = int(result.stdout.split(" inputs")[0])
    memory, before = (int(part.split()[-1]) for part in result.stdout.split(" MB")[:2])
    assert n_inputs >= 600 and memory - before < 600


def test_the_watch_would_see_a_file_that_is_opened(tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"x")
    with hostile_audio.watching(tmp_path) as opened:
        (tmp_path / "secret.wav").read_bytes()
    assert opened == ["secret.wav"]


def test_ffmpeg_would_follow_a_playlist_if_it_were_let(tmp_path, monkeypatch):
    """So the inputs are hostile indeed: the decoder's options are what keeps them harmless."""
    (tmp_path / "secret.wav").write_bytes(hostile_inputs.whole()["whole.wav"])
    script = tmp_path / "script.mp3"
    script.write_text("ffconcat version 1.0\nfile secret.wav\n")
    with hostile_audio.watching(tmp_path) as opened, av.open(str(script)) as container:
        next(container.decode(audio=0))
    assert "secret.wav" in opened


@pytest.fixture(scope="module")
def address(tiny_classifier):
    page = build(GenreClassifier(tiny_classifier, device="cpu"))
    _, url, _ = serve(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield url.rstrip("/")
    page.close()


def upload(address: str, name: bytes, data: bytes) -> str:
    """The path on the server. The name goes into the request as it is."""
    mark = uuid.uuid4().hex
    head = b'Content-Disposition: form-data; name="files"; filename="' + name + b'"'
    body = b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (mark.encode(), head, data, mark.encode())
    kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", body, kind)
    return json.load(urllib.request.urlopen(request, timeout=30))[0]


def call(address: str, endpoint: str, data: object) -> str:
    request = urllib.request.Request(
        f"{address}/gradio_api/call/{endpoint}",
        json.dumps({"data": [data]}).encode(),
        {"Content-Type": "application/json"},
    )
    event = json.load(urllib.request.urlopen(request, timeout=30))["event_id"]
    answer = f"{address}/gradio_api/call/{endpoint}/{event}"
    return urllib.request.urlopen(answer, timeout=60).read().decode()


def as_file(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


NAMES = [name.encode() for name in hostile_inputs.ODD_NAMES] + [
    b"../../../../etc/cron.d/x.wav",
    b"/etc/passwd",
    b"..",
    b"",
    b"\x00.wav",
    b"\xff\xfe.wav",
    b"%2e%2e%2fx.wav",
    b"x" * 5000 + b".wav",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_odd_names_over_http(address, name):
    name = name.replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
    try:
        path = upload(address, name, hostile_inputs.whole()["whole.wav"])
    except urllib.error.HTTPError as error:  # refused by gradio: also an answer, of the client's
        assert 400 <= error.code < 500 or not name
        return
    answer = call(address, "classify", as_file(path))
    assert "event: complete" in answer and '"genre"' in answer


SAMPLE = ("text.mp3", "empty.mp3", "picture.mp3", "host in m3u8", "file in ffconcat.mp3",
          "unknown codec.mov", "NaN.wav", "huge.wav", "silence.wav", "9 channels.wav")  # fmt: skip


def test_over_http_they_are_sentences_too(address, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(hostile_inputs.whole()["whole.wav"])
    with hostile_audio.listening() as (port, visits), hostile_audio.watching(tmp_path) as opened:
        inputs = hostile_inputs.all_inputs(secret, port)
        paths = [upload(address, name.encode(), inputs[name]) for name in SAMPLE]
        for path in paths:
            answer = call(address, "classify", as_file(path))
            assert "event: error" in answer
            assert "cannot be used" in answer or "is silent" in answer
            assert path not in answer and "Traceback" not in answer
        batch = call(address, "classify_batch", [as_file(path) for path in paths])
    answers = json.loads(batch.split("data: ", 1)[1])[0]
    assert len(answers) == len(SAMPLE) and all("error" in answer for answer in answers)
    assert not visits and not opened


BAD_CALLS = [None, "", "x.wav", 7, [], {}, {"path": None}, {"path": ""}, {"path": ["a"]},
             {"url": "file:///etc/passwd"}, {"path": "file:///etc/passwd"}, [[[[]]]],
             {"path": "x" * 10_000}, {"path": "/proc/self/environ"}]  # fmt: skip


@pytest.mark.parametrize("endpoint", ["classify", "classify_batch"])
def test_malformed_calls_are_refused(address, endpoint, root):
    for data in BAD_CALLS:
        try:
            answer = call(address, endpoint, data)
        except urllib.error.HTTPError as error:
            answer = error.read().decode()
            assert 400 <= error.code < 500, (data, answer)
        assert '"genre"' not in answer, data
        assert (
            "Traceback" not in answer and str(root) not in answer and "site-packages" not in answer
        )
