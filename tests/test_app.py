"""The demo without a browser: its functions, its command line, and its API over HTTP."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
from benchmarks.page_client import Listener
from data_prep.synthetic import synthesise
from music_genre import old_audio as audio
from music_genre.classifier import GenreClassifier
from music_genre.demo import page as page_module
from music_genre.demo import server
from music_genre.demo.about import about, find_report
from music_genre.demo.uploads import MAX_FILE_MB
from music_genre.errors import InputError
from music_genre.report import newest_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def classifier(jazz_model):
    return GenreClassifier(jazz_model, device="cpu")


# --- the page and its API -------------------------------------------------------------------


def test_about_says_what_was_measured_and_on_what(classifier, jazz_model):
    text = about(classifier, find_report(classifier), 35)
    assert "tiny-jazz" in text and str(jazz_model) not in text
    assert "**75.0%** of 50 test clips (50.0% to 90.0%" in text and "fault-filtered" in text
    assert "synthesised" in text
    assert "Unknown" in about(classifier, None, 35)


def test_about_leaves_out_what_the_card_leaves_out(classifier):
    report = find_report(classifier)
    score = report["test"] | {"per_genre": report["test"]["per_genre"] | {"jazz": {"n": 0}}}
    text = about(classifier, report | {"test": score}, 35)
    assert "75.0%" not in text
    assert "The test split has 50 clips and none of jazz, and the validation split is empty" in text
    text = about(classifier, report | {"test": score, "validation": report["test"]}, 35)
    assert "**75.0%** of 50 validation clips" in text


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """Where the page keeps what visitors send."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(classifier, uploads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        page = page_module.build(classifier)
        _, url, _ = server.serve(
            page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True
        )
        yield url
        page.close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_api_lists_two_typed_endpoints(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/classify", "/classify_batch"}
    (answer,) = endpoints["/classify"]["returns"]
    assert "probabilities: dict(str, float)" in answer["python_type"]["type"]


def test_api_classifies_a_file(client, song):
    answer = client.predict(file=handle_file(song), api_name="/classify")
    assert answer["genre"] == "jazz" and len(answer["timeline"]) == 3
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_api_classifies_several_files(client, song, tmp_path):
    bad = tmp_path / "bad.mp3"
    bad.write_text("no audio")
    answers = client.predict(
        files=[handle_file(song), handle_file(bad)], api_name="/classify_batch"
    )
    assert [answer["file"] for answer in answers] == ["song.wav", "bad.mp3"]
    assert answers[0]["genre"] == "jazz" and "bad.mp3" in answers[1]["error"]


def test_api_errors_are_sentences_without_paths(client, tmp_path):
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
    monkeypatch.setattr(server, "MAX_SESSIONS", 5)
    page = page_module.build(classifier)
    options = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
    application, url, _ = server.serve(page, **options)
    for _ in range(8):
        call(url, None)
    assert len(application.state_holder.session_data) <= 5
    page.close()


def test_the_sound_of_a_listener_is_forgotten(classifier, monkeypatch):
    """Also of one who closed the page: gradio would keep it for an hour."""
    monkeypatch.setattr(page_module, "STATE_SECONDS", 5)
    page = page_module.build(classifier)
    application, url, _ = server.serve(page, prevent_thread_lock=True, quiet=True)
    sessions = application.state_holder.session_data.values()
    chunk = audio.wav_bytes(audio.to_pcm16(synthesise("disco", 1, 1.0, 16_000)))
    assert not Listener(url.rstrip("/")).listen([chunk] * 2, 0.5).error
    assert any(session.state_data for session in sessions)
    wait_for(lambda: not any(session.state_data for session in sessions))
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
    path = httpx.post(f"{address}gradio_api/upload", files={"files": song.read_bytes()}).json()[0]
    url = f"http://nowhere.invalid/gradio_api/file={path}"
    answer = call(address, {"path": url, "meta": {"_type": "gradio.FileData"}})
    assert '"genre": "jazz"' in answer


def test_the_page_serves_no_addresses(address):
    url = "http://example.com/song.mp3"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}gradio_api/file={url}")
    assert caught.value.code == 403


@pytest.mark.parametrize(("module", "name"), server.REPLACED)
def test_a_gradio_without_the_functions_to_replace_is_refused(monkeypatch, module, name):
    monkeypatch.delattr(module, name)
    with pytest.raises(InputError, match=rf"no {module.__name__}\.{name}.*requirements\.txt"):
        server.replace_functions()


def test_two_visitors_who_record_share_nothing(address):
    """One sends chunks of 1 s, the other of 10 s: each headline counts its own visitor's only."""
    pcm = audio.to_pcm16(synthesise("disco", 1, 33.0, 16_000))
    short, long = np.split(pcm[: 3 * 16_000], 3), np.split(pcm[3 * 16_000 :], 3)
    takes = [[audio.wav_bytes(chunk) for chunk in chunks] for chunks in (short, long)]
    visitors = [Listener(address.rstrip("/")) for _ in takes]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda visitor, take: visitor.listen(take, 0.5), visitors, takes))
    seconds = [
        [int(s) for s in re.findall(r"processed 0:(\d\d)", str(visitor.headlines))]
        for visitor in visitors
    ]
    assert all(len(of_one) > 1 for of_one in seconds)
    assert set(seconds[0]) <= {1, 2, 3} and set(seconds[1]) <= {10, 20, 30}


def test_too_large_files_are_refused(address, tmp_path, monkeypatch):
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_MB * 2**20 + 1)
    with pytest.raises(Exception, match=r"(?i)413|exceed"):
        Client(address, verbose=False).predict(file=handle_file(large), api_name="/classify")


def test_an_upload_that_breaks_off_leaves_nothing(address, uploads):
    """gradio has it in none of its lists, and would never delete it."""
    before = set(uploads.iterdir())
    host, port = urlsplit(address).netloc.split(":")
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as visitor:
        visitor.sendall(head.encode() + bytes(200_000))
        wait_for(lambda: set(uploads.iterdir()) > before)
    wait_for(lambda: set(uploads.iterdir()) == before)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- command line ---------------------------------------------------------------------------


def in_a_process(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"MODEL_ID": ""},
        capture_output=True,
        text=True,
        timeout=400,  # it takes 4 s where nothing else runs
    )


@pytest.fixture
def run_app(monkeypatch, capsys):
    def run_app(*arguments, cwd, **environment):
        """Run it in this process, which has imported what it needs."""
        monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
        monkeypatch.chdir(cwd)
        for name, value in {"MODEL_ID": "", **environment}.items():
            monkeypatch.setenv(name, value)
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run_app


def test_without_a_model_one_sentence_says_what_to_do(tmp_path):
    result = in_a_process(cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "accelerate launch train_hf.py" in result.stderr


@pytest.fixture
def printed(run_app, monkeypatch):
    """What it prints before it serves, line by line."""
    monkeypatch.setattr(server, "serve", lambda page, server_port: None)
    return lambda *arguments, cwd: run_app(*arguments, cwd=cwd).stdout.splitlines()


def test_the_log_says_what_is_loaded(printed, jazz_model):
    (line,) = printed("--model", str(jazz_model), cwd=ROOT)
    assert line.startswith("tiny-jazz (from a local folder): ")
    assert "10 labels, on c" in line and "/" not in line


CONFIGS = {"broken": "{", "text-model": '{"model_type": "bert"}'}


@pytest.mark.parametrize("name", ["missing", "empty", *CONFIGS])
def test_what_is_no_model_is_one_sentence(run_app, tmp_path, name):
    if name != "missing":
        (tmp_path / name).mkdir()
    if name in CONFIGS:
        (tmp_path / name / "config.json").write_text(CONFIGS[name])
    result = run_app("--model", f"./{name}", cwd=tmp_path)
    assert result.returncode == 2 and name in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")


def test_a_process_prints_no_more_than_the_sentence(tmp_path):
    """Nor does a library that it imports."""
    (tmp_path / "config.json").write_text(CONFIGS["text-model"])
    result = in_a_process("--model", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1 and result.stdout == ""


def test_the_model_of_the_environment_is_refused_alike(run_app, tmp_path):
    result = run_app(cwd=tmp_path, MODEL_ID="./missing")
    assert result.returncode == 2 and result.stderr.count("\n") == 1


def test_a_revision_of_a_folder_is_refused(run_app, jazz_model):
    result = run_app("--model", str(jazz_model), "--revision", "v1", cwd=ROOT)
    assert result.returncode == 2 and "no revision v1" in result.stderr


def make_run(folder, model, is_synthetic, age):
    """A finished run; age: seconds since its report was written."""
    shutil.copytree(model, folder)
    report = json.loads((folder / "report.json").read_text()) | {"is_synthetic": is_synthetic}
    (folder / "report.json").write_text(json.dumps(report))
    os.utime(folder / "report.json", (1e9 - age, 1e9 - age))


def test_the_newest_run_on_real_music_is_served_and_else_the_demonstration(jazz_model, tmp_path):
    runs = tmp_path / "runs"
    assert newest_run(runs) is None
    make_run(runs / "quickstart", jazz_model, True, age=0)
    assert newest_run(runs) == runs / "quickstart"
    make_run(runs / "old", jazz_model, False, age=200)
    make_run(runs / "seeds" / "seed-1", jazz_model, False, age=100)
    make_run(runs / ".partial", jazz_model, False, age=10)
    make_run(runs / "no-model", jazz_model, False, age=10)
    (runs / "no-model" / "model.safetensors").unlink()
    assert newest_run(runs) == runs / "seeds" / "seed-1"


@pytest.mark.parametrize(
    ("is_synthetic", "why"), [(True, "a demonstration"), (False, "newest run")]
)
def test_the_log_says_which_run_is_served_and_why(printed, jazz_model, tmp_path, is_synthetic, why):
    make_run(tmp_path / "runs" / "mine", jazz_model, is_synthetic, age=0)
    line, described = printed(cwd=tmp_path)
    assert line.startswith("Serving runs/mine: ") and why in line
    assert described.startswith("mine (from a local folder)")


def test_a_taken_port_is_one_sentence(run_app, jazz_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run_app("--model", str(jazz_model), "--port", port, cwd=ROOT)
    assert result.returncode == 2 and f"error: Port {port} is taken" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("port", ["0", "99999", "-1", "http"])
def test_a_number_that_is_no_port_is_refused(run_app, port):
    result = run_app("--port", port, cwd=ROOT)
    assert result.returncode == 2 and "port" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_no_heavy_import():
    code = "import sys, app; print({'torch', 'gradio', 'transformers'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
