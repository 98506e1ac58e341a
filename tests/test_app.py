"""The demo without a browser: its functions, its command line, and its API over HTTP."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
from data_prep.synthetic import synthesise
from music_genre.demo import page as page_module
from music_genre.demo import server, uploads
from music_genre.demo.about import about, model_line
from music_genre.demo.uploads import MAX_FILE_MB
from music_genre.report import newest_run, read_report
from music_genre.wav import to_pcm16
from tests.page_client import Listener, Visitor
from tests.processes import wait_until

ROOT = Path(__file__).resolve().parents[1]


# --- the page and its API -------------------------------------------------------------------


def test_about_says_what_was_measured_and_on_what(classifier, jazz_model):
    text = about(classifier, read_report(classifier.folder), 35)
    assert "tiny-jazz" in text and str(jazz_model) not in text
    assert "**75.0%** of 50 test tracks (50.0% to 90.0%" in text and "fault-filtered" in text
    assert "F1: 0.700." in text and "deleted within 35 minutes" in text
    assert "synthesised" in text and "live sound within a minute, or" in text
    assert "Unknown" in about(classifier, None, 35)
    hub_classifier = SimpleNamespace(**vars(classifier) | {"model_id": "you/tiny", "commit": "abc"})
    assert "you/tiny (revision abc): 0.0 million parameters" in model_line(hub_classifier)


def test_about_leaves_out_what_the_card_leaves_out(classifier):
    report = read_report(classifier.folder)
    score = report["test"] | {"per_genre": report["test"]["per_genre"] | {"jazz": {"n": 0}}}
    text = about(classifier, report | {"test": score}, 35)
    assert "75.0%" not in text
    assert (
        "The test split has 50 tracks and none of jazz, and the validation split is empty" in text
    )
    text = about(classifier, report | {"test": score, "validation": report["test"]}, 35)
    assert "**75.0%** of 50 validation tracks" in text


@pytest.mark.parametrize("score", [0.93, {"per_genre": 3}, {"per_genre": {"jazz": {"n": 9}}}])
def test_a_report_of_another_program_does_not_stop_the_page(classifier, score):
    assert "Unknown" in about(classifier, {"test": score}, 35)


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_demonstration_is_known_by_its_configuration(classifier, monkeypatch, is_marked):
    monkeypatch.setattr(classifier.model.config, "trained_on_synthetic_music", is_marked)
    assert classifier.is_demonstration is is_marked
    assert ("A demonstration" in page_module._introduction(classifier, "mine")) is is_marked
    assert ("not a music classifier" in about(classifier, None, 35)) is is_marked


def test_the_page_says_which_model_it_is(classifier):
    assert "**mine** knows 10 genres." in page_module._introduction(classifier, "mine")


def test_examples_are_those_whose_genre_the_model_knows():
    found = page_module.examples_of(["techno", "Hip-Hop", "Jazz"])
    assert {label: path.stem for label, path in found.items()} == {
        "Hip-Hop": "hiphop",
        "Jazz": "jazz",
    }


@pytest.fixture(scope="module")
def address(classifier, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("uploads")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        page = page_module.build(classifier)
        _, url, _ = server.serve(
            page, folder, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True
        )
        yield url
        page.close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_api_lists_two_endpoints(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/classify", "/classify_batch"}


def test_the_page_says_when_the_last_file_is_deleted(client):
    assert "deleted within 16 minutes" in str(client.config), "at an age of 15, each minute"
    assert not client.config["run_history"], "nothing is kept in the browser"


def test_api_classifies_a_file(client, song):
    answer = client.predict(file=handle_file(song), api_name="/classify")
    assert answer["genre"] == "jazz" and len(answer["timeline"]) == 3
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_api_errors_are_sentences_without_paths(client, song, tmp_path):
    """One bad file gives an error; with several files, each gets an answer."""
    bad = tmp_path / "bad.mp3"
    bad.write_text("no audio")
    with pytest.raises(AppError, match=r"“bad\.mp3” cannot be used") as caught:
        client.predict(file=handle_file(bad), api_name="/classify")
    assert "/" not in str(caught.value) and "Traceback" not in str(caught.value)
    answers = client.predict(
        files=[handle_file(song), handle_file(bad)], api_name="/classify_batch"
    )
    assert [answer["file"] for answer in answers] == ["song.wav", "bad.mp3"]
    assert answers[0]["genre"] == "jazz" and "bad.mp3" in answers[1]["error"]


def test_pages_and_programs_share_a_limit_of_two_files(address, song, monkeypatch):
    """The limit counts the page's functions, /classify and /classify_batch together."""
    at_once, most, lock = 0, 0, threading.Lock()
    classify_upload = uploads.classify_upload

    def counted(*arguments):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.3)
        with lock:
            at_once -= 1
        return classify_upload(*arguments)

    monkeypatch.setattr(uploads, "classify_upload", counted)
    monkeypatch.setattr(page_module, "classify_upload", counted)
    visitor = Visitor(address.rstrip("/"))
    file = visitor.upload("song.wav", song.read_bytes())
    page = {"show": file, "show_1": [file], "classify": file, "classify_batch": [file]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(visitor.call, [*page] * 2, [*page.values()] * 2))
    assert [outcome for outcome, _ in answers] == ["complete"] * 8
    assert most == 2


def test_sessions_and_the_sound_of_listeners_are_forgotten(classifier, monkeypatch, tmp_path):
    """By default, gradio keeps the sound of a listener who closed the page for an hour."""
    monkeypatch.setattr(server, "MAX_SESSIONS", 5)
    monkeypatch.setattr(page_module, "STATE_SECONDS", 5)
    page = page_module.build(classifier)
    assert page._queue.max_size == page_module.MAX_WAITING
    options = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
    application, url, _ = server.serve(page, tmp_path, **options)
    sessions = application.state_holder.session_data
    chunk = to_pcm16(synthesise("disco", 1, 1.0, 16_000))
    listener = Listener(url.rstrip("/"))
    assert not listener.listen([chunk] * 2, 16_000, 0.5).error
    session = sessions[listener.session]
    assert session.state_data
    is_kept = base64.b64encode(chunk).decode() in str(list(session.components))
    assert not is_kept, "as it was sent"
    wait_until(lambda: not session.state_data)
    for _ in range(8):
        Visitor(url.rstrip("/")).call("classify", None)
    assert len(sessions) <= 5
    page.close()


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def begin_upload(url: str, data: bytes) -> None:
    """Send the head and a part of a file, then hang up."""
    host, port = url.strip("/").removeprefix("http://").split(":")
    disposition = 'Content-Disposition: form-data; name="files"; filename="song.wav"'
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 999999999\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n{disposition}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + data)


def test_uploads_are_deleted_and_examples_stay(classifier, song, monkeypatch, tmp_path):
    folder = tmp_path / "uploads"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    monkeypatch.setattr(server, "CHECK_SECONDS", 1)
    monkeypatch.setattr(server, "CACHE_SECONDS", 1)
    page = page_module.build(classifier)
    options = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
    examples = files_in(folder)
    assert {path.stem for path in examples} == set(classifier.labels)
    _, url, _ = server.serve(page, folder, **options)
    visitor = Visitor(url.rstrip("/"))
    first = Path(visitor.upload("song.wav", song.read_bytes())["path"])
    wait_until(lambda: not first.parent.exists())
    begin_upload(url, song.read_bytes())
    wait_until(lambda: files_in(folder) > examples)
    wait_until(lambda: files_in(folder) == examples)
    page.close()


def test_two_visitors_who_listen_share_nothing(address, monkeypatch):
    """One sends chunks of 1 s, the other of 5 s: each headline counts only its own visitor's."""
    session, heard = page_module.LiveSession, []
    classify = session.classify
    monkeypatch.setattr(
        session, "classify", lambda self, *model: heard.append(self) or classify(self, *model)
    )
    pcm = to_pcm16(synthesise("disco", 1, 18.0, 16_000))
    takes = [np.split(pcm[: 3 * 16_000], 3), np.split(pcm[3 * 16_000 :], 3)]
    visitors = [Listener(address.rstrip("/")) for _ in takes]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda v, take: v.listen(take, 16_000, 0.5), visitors, takes))
    seconds = [re.findall(r"processed 0:(\d\d)", str(result.headlines)) for result in results]
    assert seconds == [["01", "02", "03"], ["05", "10", "15"]]
    assert max(len(one.waveform) for one in heard) == 5 * 16_000, "the model's window is kept"


def test_live_sound_leaves_no_file(address):
    folder = Path(page_module.gr.utils.get_upload_folder())
    before = set(folder.rglob("*"))
    chunk = to_pcm16(synthesise("disco", 1, 1.0, 16_000))
    listener = Listener(address.rstrip("/"))
    result = listener.listen([chunk] * 3, 16_000, 0.1)
    assert len(result.headlines) == 3 and set(folder.rglob("*")) == before
    again = listener.listen([chunk], 16_000)
    assert "processed 0:01" in again.headlines[0], "listening again starts over"


def test_too_large_files_are_refused(address, tmp_path, monkeypatch):
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_MB * 2**20 + 1)
    with pytest.raises(Exception, match=r"(?i)413|exceed"):
        Client(address, verbose=False).predict(file=handle_file(large), api_name="/classify")


# --- command line ---------------------------------------------------------------------------


@pytest.fixture
def run_app(monkeypatch, capsys, tmp_path):
    def run_app(*arguments, cwd, **environment):
        """Run app.py in this process, which has already imported what it needs."""
        monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
        monkeypatch.chdir(cwd)
        own = {"MODEL_ID": "", "GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
        for name, value in {**own, **environment}.items():
            monkeypatch.setenv(name, value)
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run_app


def test_without_a_model_one_sentence_says_what_to_do(tmp_path):
    """Run as a process, because --help and this sentence must not need a heavy import."""
    code = (
        "import sys, app\n"
        "sys.argv[1:] = []\n"
        "try:\n    app.main()\n"
        "finally:\n    print({'torch', 'gradio', 'transformers'} & set(sys.modules))"
    )
    environment = os.environ | {"MODEL_ID": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 2 and result.stdout == "set()\n"
    assert result.stderr.count("\n") == 1 and "accelerate launch train_hf.py" in result.stderr


@pytest.fixture
def printed(run_app, monkeypatch):
    """The lines that app.py prints before it serves."""
    monkeypatch.setattr(server, "serve", lambda page, uploads, **options: None)
    return lambda *arguments, **options: run_app(*arguments, **options).stdout.splitlines()


def test_the_log_says_what_is_loaded(printed, jazz_model):
    (line,) = printed("--model", str(jazz_model), cwd=ROOT, MODEL_ID="another")
    assert line.startswith("tiny-jazz (from a local folder): ")
    assert "10 labels, on c" in line and "/" not in line


def test_a_stopped_service_ends_as_after_ctrl_c(run_app, jazz_model, monkeypatch, tmp_path):
    """Files that visitors sent are deleted; other files in the given folder stay."""
    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "mine.wav").touch()

    def serve(page, uploads, root_path, **_) -> None:
        assert root_path == "/genre"
        Path(uploads, "song.wav").touch()
        assert str(uploads) == os.environ["GRADIO_TEMP_DIR"]
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(server, "serve", serve)
    try:
        stopped = run_app("--model", str(jazz_model), "--root_path", "/genre", cwd=ROOT)
        assert stopped.returncode == "\nStopped."
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.listdir(folder) == ["mine.wav"]


CONFIGS = {"broken": "{", "text-model": '{"model_type": "bert"}'}


@pytest.mark.parametrize("name", ["missing", *CONFIGS])
def test_a_path_without_a_model_gives_one_sentence(run_app, tmp_path, name):
    if name != "missing":
        (tmp_path / name).mkdir()
    if name in CONFIGS:
        (tmp_path / name / "config.json").write_text(CONFIGS[name])
    result = run_app("--model", f"./{name}", cwd=tmp_path)
    assert result.returncode == 2 and name in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")


def test_a_revision_of_a_folder_is_refused(run_app, jazz_model):
    result = run_app("--model", str(jazz_model), "--revision", "v1", cwd=ROOT)
    assert result.returncode == 2 and "no revision v1" in result.stderr


def make_run(folder, model, is_synthetic, age):
    """A finished run; age: seconds since its report was written."""
    shutil.copytree(model, folder)
    report = json.loads((folder / "report.json").read_text()) | {"is_synthetic": is_synthetic}
    (folder / "report.json").write_text(json.dumps(report))
    os.utime(folder / "report.json", (1e9 - age, 1e9 - age))


def test_the_newest_run_on_real_music_is_served_or_else_the_demonstration(jazz_model, tmp_path):
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


def test_a_taken_port_gives_one_sentence(run_app, jazz_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run_app("--model", str(jazz_model), "--port", port, cwd=ROOT)
    assert result.returncode == 2 and f"error: Port {port} is taken" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("port", ["0", "99999", "http"])
def test_an_invalid_port_is_refused(run_app, port):
    result = run_app("--port", port, cwd=ROOT)
    assert result.returncode == 2 and "port" in result.stderr
    assert "Traceback" not in result.stderr
