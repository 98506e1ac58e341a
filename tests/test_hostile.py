"""What strangers send to the page: hundreds of hostile files, and names of files they never sent.

Each file ends in an answer or in one sentence that shows no path; no other host is contacted, and
no file beside it is opened. A name is read only if its file was sent to the page, and no answer
tells whether a file exists: every function that takes a file is called, in every way gradio offers,
with a song of the server and with one that is not there.
"""

import ctypes
import json
import os
import re
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from urllib.parse import quote

import av
import httpx
import pytest

from music_genre.demo import page as page_module
from music_genre.demo import pictures, server, uploads
from music_genre.errors import InputError
from tests import hostile_inputs
from tests.page_client import Visitor

TIME_LIMIT = 20  # seconds per input; far more than any needs, as the machine may be busy
META = {"meta": {"_type": "gradio.FileData"}}
NAME = "song.wav"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`secret` holds a song, `nothing` does not; `uploads` is where the page keeps files."""
    folder = tmp_path_factory.mktemp("server")
    for name in ("uploads/sent", "secret", "nothing"):
        (folder / name).mkdir(parents=True)
    (folder / "secret" / NAME).write_bytes(hostile_inputs.whole()["whole.wav"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        yield folder


@pytest.fixture(scope="module")
def site(folder, classifier):
    page = page_module.build(classifier)
    options = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
    _, url, _ = server.serve(page, folder / "uploads", **options)
    yield Site(url.rstrip("/"))
    page.close()


class Site:
    """The page's functions that take a file, and the ways to call them."""

    def __init__(self, address):
        self.address, self.visitor = address, Visitor(address)
        config = httpx.get(f"{address}/config").json()
        kinds = {one["id"]: one["type"] for one in config["components"]}
        self.functions = [
            (one["id"], one["api_name"], [kinds[i] for i in one["inputs"]])
            for one in config["dependencies"]
            if one["backend_fn"] and {"audio", "file"} & {kinds[i] for i in one["inputs"]}
        ]

    def answers(self, file):
        """The answers of all functions to a file, called in all ways."""
        for fn_index, name, kinds in self.functions:
            data = [{"audio": file, "file": [file]}.get(kind) for kind in kinds]
            yield fn_index, "queue", self.by_queue(fn_index, data)
            body = {"fn_index": fn_index, "data": data, "session_hash": uuid.uuid4().hex}
            yield fn_index, "run", self.visitor.http.post("/run/predict", json=body).text
            yield fn_index, "call", self.call(name, data)

    def by_queue(self, fn_index, data):
        try:
            outputs = self.visitor.ask(fn_index, data, uuid.uuid4().hex)
        except httpx.HTTPStatusError as error:
            return error.response.text
        return json.dumps([[output.get("error"), output.get("data")] for output in outputs])

    def call(self, name, data):
        response = self.visitor.http.post(f"/call/{name}", json={"data": data})
        if response.is_client_error:
            return response.text
        event = response.raise_for_status().json()["event_id"]
        return self.visitor.http.get(f"/call/{name}/{event}").text

    def upload(self, name, data):
        """Upload a file and return its path on the server. The name is bytes, sent unchanged."""
        mark = uuid.uuid4().hex
        head = b'Content-Disposition: form-data; name="files"; filename="' + name + b'"'
        body = b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (mark.encode(), head, data, mark.encode())
        kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        request = urllib.request.Request(f"{self.address}/gradio_api/upload", body, kind)
        return json.load(urllib.request.urlopen(request, timeout=60))[0]


# --- hostile files --------------------------------------------------------------------------


@contextmanager
def watching(folder):
    """Collect the names of all files opened in the folder, in C or in Python (Linux's inotify).

    Python's own audit hooks do not see what FFmpeg opens.
    """
    libc, opened = ctypes.CDLL(None, use_errno=True), []
    watch = libc.inotify_init1(os.O_NONBLOCK)
    if libc.inotify_add_watch(watch, os.fsencode(folder), 0x20) < 0:  # IN_OPEN
        raise OSError(ctypes.get_errno(), "inotify")
    try:
        yield opened
        with suppress(BlockingIOError):
            while events := os.read(watch, 65536):
                while events:
                    size = int.from_bytes(events[12:16], "little")
                    opened.append(events[16 : 16 + size].rstrip(b"\0").decode())
                    events = events[16 + size :]
    finally:
        os.close(watch)


@contextmanager
def listening():
    """Listen on a port of this machine; yield it and the addresses that connected to it."""
    visits = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with suppress(OSError):
                while True:
                    connection, address = listener.accept()
                    visits.append(address)
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], visits
        listener.shutdown(socket.SHUT_RDWR)


def judge(classifier, path, folder):
    """Return "answer" or "sentence", or else what is wrong."""
    start = time.monotonic()
    try:
        result = uploads.classify_upload(classifier, path)
        json.dumps(result.as_json(), allow_nan=False)
        text = re.sub('base64,[^"]*', "", "".join(result.as_html()))
        outcome = "answer" if "nan" not in text.lower() else f"not a number: {text[:300]}"
    except InputError as error:
        said, outcome = str(error), "sentence"
        if "\n" in said or str(folder) in said or "Traceback" in said or len(said) > 500:
            outcome = f"a path, lines or too much: {said}"
        if "<" in pictures.headline(said, "", "error").split('">', 2)[2].split("</p>")[0]:
            outcome = f"not escaped: {said}"
    seconds = time.monotonic() - start
    return outcome if seconds < TIME_LIMIT else f"took {seconds:.0f} s"


def test_each_file_ends_in_an_answer_or_a_sentence(folder, classifier):
    """Decoders are separate processes, so that a crash does not end the tests."""
    secret, outcomes = folder / "secret" / NAME, {}
    judge(classifier, secret, folder)  # the first decoding imports what it needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with listening() as (port, visits), watching(secret.parent) as opened:
        inputs = hostile_inputs.all_inputs(secret, port)
        for name, data in inputs.items():
            path = folder / "uploads" / name.replace("/", "_")
            path.write_bytes(data)
            outcomes[name] = judge(classifier, path, folder)
            path.unlink()
            if visits:
                outcomes[name] = "asked another host"
                visits.clear()
    assert not {n: o for n, o in outcomes.items() if o not in ("answer", "sentence")}
    assert not opened
    assert {o for n, o in outcomes.items() if n.startswith("whole.")} == {"answer"}
    assert len(outcomes) > 350
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kilobytes


def test_the_watch_would_see_ffmpeg_follow_a_playlist(tmp_path):
    """This shows that the inputs are hostile: only the decoder's options keep them harmless."""
    (tmp_path / "secret.wav").write_bytes(hostile_inputs.whole()["whole.wav"])
    script = tmp_path / "script.mp3"
    script.write_text("ffconcat version 1.0\nfile secret.wav\n")
    with watching(tmp_path) as opened, av.open(str(script)) as container:
        next(container.decode(audio=0))
    assert "secret.wav" in opened


NAMES = [name.encode() for name in hostile_inputs.ODD_NAMES[::2]] + [
    b"../../../../etc/cron.d/x.wav", b"/etc/passwd", b"..", b"", b"\x00.wav", b"\xff\xfe.wav",
    b"x" * 5000 + b".wav",
]  # fmt: skip


def test_odd_names_over_http(site):
    for name in NAMES:
        name = name.replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
        try:
            path = site.upload(name, hostile_inputs.whole()["whole.wav"])
        except urllib.error.HTTPError as error:  # refused by gradio: also an answer
            assert 400 <= error.code < 500 or not name
            continue
        answer = site.call("classify", [{"path": path} | META])
        assert "event: complete" in answer and '"genre"' in answer, name


BAD_CALLS = [None, "", "x.wav", 7, [], {}, {"path": None}, {"path": ""}, {"path": ["a"]},
             {"url": "file:///etc/passwd"}, {"path": "file:///etc/passwd"}, [[[[]]]],
             {"path": "x" * 10_000}, {"path": "/proc/self/environ"}]  # fmt: skip


@pytest.mark.parametrize("endpoint", ["classify", "classify_batch"])
def test_malformed_calls_are_refused(site, endpoint, root):
    for data in BAD_CALLS:
        answer = site.call(endpoint, [data])
        for shown in ('"genre"', "Traceback", str(root), "site-packages"):
            assert shown not in answer, data


# --- names of files that were not sent ------------------------------------------------------

FORMS = {
    "plain": "{path}",
    "dots": "{uploads}/x/../{up}{path}",
    "dots in a folder that is there": "{uploads}/sent/../{up}{path}",
    "http": "http://127.0.0.1/..{up}{path}",
    "http without a host": "HTTP://../{up}{path}",
    "http to gradio": "http://127.0.0.1/gradio_api/file={path}",
    "file": "file://{path}",
    "null": "{path}\0",
}
FIELDS = {
    "stream": META | {"is_stream": True},
    "no stream": META,
    "orig_name": META | {"is_stream": True, "orig_name": "innocent.mp3", "size": 3},
    "url": META | {"is_stream": True, "url": "http://127.0.0.1/song.mp3"},
}


def assert_none_is_told_apart(site, there, not_there, fields):
    answers = list(site.answers({"path": str(there)} | fields))
    others = list(site.answers({"path": str(not_there)} | fields))
    for (fn_index, way, answer), (*_, other) in zip(answers, others, strict=True):
        assert without_times(answer) == without_times(other), (fn_index, way)


def without_times(text):
    return re.sub(r'"(average_)?duration": ?[\d.e-]+', "", text)


@pytest.mark.parametrize(
    ("form", "fields"),
    [(form, "stream") for form in FORMS]
    + [(form, name) for form in ("plain", "http") for name in list(FIELDS)[1:]],
)
def test_a_song_of_the_server_is_as_one_that_is_not_there(site, folder, form, fields):
    there, not_there = (
        FORMS[form].format(uploads=folder / "uploads", up="/.." * 20, path=folder / name / NAME)
        for name in ("secret", "nothing")
    )
    assert_none_is_told_apart(site, there, not_there, FIELDS[fields])
    assert (folder / "secret" / NAME).is_file(), "gradio deletes what it takes for live sound"


def test_links_pipes_folders_and_devices_are_not_read(site, folder):
    sent = folder / "uploads" / "sent"
    for name in ("link", "broken", "pipe", "folder"):
        (sent / name).mkdir()
    (sent / "link" / NAME).symlink_to(folder / "secret" / NAME)
    (sent / "broken" / NAME).symlink_to(folder / "nothing" / NAME)
    (sent / "to secret").symlink_to(folder / "secret", target_is_directory=True)
    (sent / "to nothing").symlink_to(folder / "nothing", target_is_directory=True)
    os.mkfifo(sent / "pipe" / NAME)
    (sent / "folder" / NAME).mkdir()
    pairs = [("link", "broken"), ("to secret", "to nothing"), ("pipe", "none"), ("folder", "none")]
    for there, not_there in pairs:
        paths = sent / there / NAME, sent / not_there / NAME
        assert_none_is_told_apart(site, *paths, FIELDS["stream"])
    up = "http://x/../../../../../.."
    for path in ("/proc/self/fd/0", "/dev/zero"):
        assert_none_is_told_apart(
            site, f"{up}{path}", f"{up}/nothing/{os.path.basename(path)}", FIELDS["stream"]
        )


@pytest.mark.parametrize(
    "outer", [{}, META | {"path": "/"}, META | {"path": "http://x/gradio_api/file=/"}]
)
def test_an_address_is_refused_in_a_sentence_and_not_fetched(site, outer):
    """gradio would read the whole file into memory. An address nested in other data is found."""
    with listening() as (port, visits):
        file = META | {"path": f"http://127.0.0.1:{port}/song.wav"}
        answers = [
            answer for *_, answer in site.answers(outer | {"inner": [file]} if outer else file)
        ]
        body = outer | {"data": [file]}
        answers.append(site.visitor.http.post("/call/classify", json=body).text)
    assert all("Addresses of files are not fetched" in answer for answer in answers)
    assert not visits


@pytest.mark.parametrize("form", ["{}", "https://example.org/genre/gradio_api/file={}"])
def test_a_file_that_was_sent_is_classified(site, song, form):
    """MCP clients send the file's address, which may start with any host."""
    files = {"files": ("ä b.wav", song.read_bytes())}
    path = site.visitor.http.post("/upload", files=files).json()[0]
    path = form.format(quote(path) if form != "{}" else path)
    answers = list(site.answers({"path": path} | META))
    n_classified = sum(way == "call" and "jazz" in answer for _, way, answer in answers)
    assert n_classified == 4, "Song, Files and both endpoints"
