"""The demo without a browser: its functions, its command line, and its API over HTTP."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import app
from data_prep import InputError, audio
from data_prep.gtzan import GENRES
from data_prep.synthetic import synthesise
from music_genre.classifier import GenreClassifier

ROOT = Path(__file__).resolve().parents[1]


def save_tiny_model(folder: Path) -> Path:
    """A random HuBERT of a few thousand parameters, saved as a training run saves its model."""
    import torch
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=16,
        id2label=dict(enumerate(GENRES)),
        label2id={genre: i for i, genre in enumerate(GENRES)},
        window_seconds=5.0,
        trained_on_synthetic_music=True,
    )
    model = HubertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias[GENRES.index("jazz")] = 3.0  # so that it is sure of something
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("model") / "tiny-jazz")
    score = {"accuracy": 0.75, "accuracy_ci95": [0.5, 0.9], "macro_f1": 0.7, "n": 40}
    report = {"dataset": "GTZAN", "split": "filtered", "validation": None, "test": score}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="session")
def classifier(model_dir):
    return GenreClassifier(model_dir, device="cpu")


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    path.write_bytes(audio.wav_bytes(audio.to_pcm16(synthesise("jazz", 1, 12.0)), 22_050))
    return path


# --- files ----------------------------------------------------------------------------------


def test_a_file_gives_genre_probabilities_and_timeline(classifier, song):
    heard = app.classify_file(classifier, song)
    answer = heard.as_json()
    assert answer["genre"] == "jazz"
    assert list(answer["probabilities"]) == list(GENRES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert [cell["start"] for cell in answer["timeline"]] == [0.0, 3.5, 7.0]
    assert answer["seconds"] == pytest.approx(12) and not answer["is_cut"]
    head, body = heard.as_html()
    assert ">jazz<" in head and "heard 0:12" in head
    assert body.count("<li") == 10 and "12 s" in body and "data:image/png" in body
    assert "0:00 to 0:12 jazz" in body  # what a screen reader says of the picture


def test_longer_files_are_cut_and_said_to_be(classifier, song, monkeypatch):
    monkeypatch.setattr("music_genre.classifier.MAX_SECONDS", 6.0)
    heard = app.classify_file(classifier, song)
    assert heard.is_cut and heard.seconds == pytest.approx(6)
    assert "the rest was left out" in heard.as_html()[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.mp3", b"I am a text.\n" * 50, "not audio"),
        ("empty.wav", b"", "empty"),
        ("short.wav", audio.wav_bytes(np.full(100, 9999, "<i2")), "shorter"),
        ("list.m3u", b"#EXTM3U\nhttp://127.0.0.1/x.mp3\n", "not audio"),
        ("picture.mp3", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not audio"),
    ],
)
def test_unusable_files_give_one_sentence_without_the_folder(
    classifier, tmp_path, name, content, reason
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        app.classify_file(classifier, path)
    assert reason in str(caught.value) and f"“{name}”" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_batch_answers_for_each_file(classifier, song, tmp_path):
    bad = tmp_path / "=cmd.mp3"
    bad.write_text("no audio")
    answers = list(app.classify_files(classifier, [str(song), str(bad)]))
    assert answers[0]["genre"] == "jazz" and "cannot be used" in answers[1]["error"]
    table = app.as_table(answers, classifier.labels)
    assert list(table.columns) == [*app.TABLE, *GENRES]
    assert table.loc[0, "seconds"] == 12.0 and table.loc[0, "remark"] == ""
    assert "cannot be used" in table.loc[1, "remark"]


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "＝1", "a,b\nc", "a"]
)
def test_no_name_is_a_formula_for_a_spreadsheet(name):
    table = app.as_table([{"file": name, "error": "cannot be used"}], ["jazz", "rock"])
    text = app.as_csv(table).decode("utf-8-sig")
    ((cell, *rest),) = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert cell[0] in "a' " and cell.endswith(name[-2:].replace("\n", " "))
    assert rest == ["", "", "", "", "cannot be used", "", ""]


def test_silence_is_no_music(classifier, tmp_path):
    path = tmp_path / "silence.wav"
    path.write_bytes(audio.wav_bytes(np.zeros(32_000, "<i2")))
    with pytest.raises(InputError, match="is silent"):
        app.classify_file(classifier, path)


def test_names_in_messages_stay_on_one_short_line():
    assert app.shown_name("/tmp/a\nb\u202egnp.wav") == "a b gnp.wav"
    assert len(app.shown_name("x" * 300 + ".wav")) < 61
    assert app.shown_name("x" * 300 + ".wav").endswith(".wav")


@pytest.mark.parametrize("n_files", [0, app.MAX_FILES + 1])
def test_a_batch_has_limits(classifier, n_files):
    with pytest.raises(InputError, match="between 1 and"):
        list(app.classify_files(classifier, ["x.wav"] * n_files))


def test_what_a_model_or_a_visitor_names_is_escaped(classifier, tmp_path):
    path = tmp_path / "<img src=x>.mp3"
    path.write_text("no audio")
    with pytest.raises(InputError) as caught:
        app.classify_file(classifier, path)
    assert "<img" not in app.pictures.headline(str(caught.value), "", "error")
    assert "<b>x" not in app.pictures.of_nothing(["<b>x"])


# --- the page and its API -------------------------------------------------------------------


def test_about_says_what_was_measured_and_on_what(classifier, model_dir):
    text = app.about(classifier, app.find_report(classifier), 35)
    assert "tiny-jazz" in text and str(model_dir) not in text
    assert "**75.0%** of 40 test clips (50.0% to 90.0%" in text and "fault-filtered" in text
    assert "synthesised" in text
    assert "Unknown" in app.about(classifier, None, 35)


@pytest.fixture(scope="module")
def address(classifier):
    page = app.build(classifier)
    _, url, _ = app.serve(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield url
    page.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def test_api_lists_two_typed_endpoints(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/classify", "/classify_batch"}
    (answer,) = endpoints["/classify"]["returns"]
    assert "probabilities: dict(str, float)" in answer["python_type"]["type"]


def test_api_classifies_a_file(client, song):
    from gradio_client import handle_file

    answer = client.predict(file=handle_file(song), api_name="/classify")
    assert answer["genre"] == "jazz" and len(answer["timeline"]) == 3
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_api_classifies_several_files(client, song, tmp_path):
    from gradio_client import handle_file

    bad = tmp_path / "bad.mp3"
    bad.write_text("no audio")
    answers = client.predict(
        files=[handle_file(song), handle_file(bad)], api_name="/classify_batch"
    )
    assert [answer["file"] for answer in answers] == ["song.wav", "bad.mp3"]
    assert answers[0]["genre"] == "jazz" and "bad.mp3" in answers[1]["error"]


def test_api_errors_are_sentences_without_paths(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    bad = tmp_path / "bad.mp3"
    bad.write_text("no audio")
    with pytest.raises(AppError, match=r"“bad\.mp3” cannot be used") as caught:
        client.predict(file=handle_file(bad), api_name="/classify")
    assert "/" not in str(caught.value) and "Traceback" not in str(caught.value)


def call(address, file):
    """POST to /classify as curl would; returns the text of the event that answers."""
    request = urllib.request.Request(
        f"{address}gradio_api/call/classify",
        json.dumps({"data": [file]}).encode(),
        {"Content-Type": "application/json"},
    )
    event = json.load(urllib.request.urlopen(request))["event_id"]
    answer = urllib.request.urlopen(f"{address}gradio_api/call/classify/{event}", timeout=30)
    return answer.read().decode()


def test_sessions_of_the_past_are_forgotten(classifier, monkeypatch):
    monkeypatch.setattr(app, "MAX_SESSIONS", 5)
    page = app.build(classifier)
    server, url, _ = app.serve(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    for _ in range(8):
        call(url, None)
    assert len(server.state_holder.session_data) <= 5
    page.close()


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
@pytest.mark.parametrize("path", ["/etc/hostname", str(ROOT / "app.py"), "../../etc/hostname"])
def test_files_of_the_server_are_out_of_reach(address, path, meta):
    answer = call(address, {"path": path, **meta})
    assert "event: error" in answer and path not in answer


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/song.mp3",
        "http://127.0.0.1/gradio_api/file=/etc/hostname",
        "http://127.0.0.1/gradio_api/file=..%2f..%2fetc/hostname",
        "http://127.0.0.1/gradio_api/file=/tmp%00",
    ],
)
def test_addresses_are_not_fetched(address, url):
    answer = call(address, {"path": url, "meta": {"_type": "gradio.FileData"}})
    assert "not fetched" in answer


def test_the_address_of_an_upload_is_the_upload(address, song):
    """As MCP clients name their files: no host, this page's neither, is asked for it."""
    import httpx

    path = httpx.post(f"{address}gradio_api/upload", files={"files": song.read_bytes()}).json()[0]
    url = f"http://nowhere.invalid/gradio_api/file={path}"
    answer = call(address, {"path": url, "meta": {"_type": "gradio.FileData"}})
    assert '"genre": "jazz"' in answer


def test_the_page_serves_no_addresses(address):
    url = "http://example.com/song.mp3"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}gradio_api/file={url}")
    assert caught.value.code == 403


def test_too_large_files_are_refused(address, tmp_path, monkeypatch):
    from gradio_client import Client, handle_file

    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(app.MAX_FILE_MB * 2**20 + 1)
    with pytest.raises(Exception, match=r"(?i)413|exceed"):
        Client(address, verbose=False).predict(file=handle_file(large), api_name="/classify")


# --- command line ---------------------------------------------------------------------------


def run_app(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *arguments],
        cwd=cwd,
        env={**os.environ, "MODEL_ID": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_model_one_sentence_says_what_to_do(tmp_path):
    result = run_app(cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "accelerate launch train_hf.py" in result.stderr


def test_the_log_says_what_is_loaded(model_dir):
    process = subprocess.Popen(
        [sys.executable, "app.py", "--model", str(model_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline()
    finally:
        process.kill()
        process.wait()
    assert line.startswith("tiny-jazz (from a local folder): ")
    assert "10 labels, on c" in line and "/" not in line


def test_a_model_that_is_not_there_is_one_sentence(tmp_path):
    for result in (
        run_app("--model", "./missing", cwd=tmp_path),
        run_app(cwd=tmp_path, MODEL_ID="./missing"),
    ):
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1 and "missing" in result.stderr


def test_a_taken_port_is_one_sentence(model_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run_app("--model", str(model_dir), "--port", port, cwd=ROOT)
    assert result.returncode == 2 and "error: The port is taken" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_no_heavy_import():
    code = "import sys, app; print({'torch', 'gradio', 'transformers'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
