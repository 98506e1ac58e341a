"""A visitor names files: only those that were sent to the page are read, and none is betrayed.

Every function of the page that takes a file is asked, by every way that gradio offers, for a song
of the server and for one that is not there. The answers must be equal.
"""

import json
import os
import uuid

import httpx
import pytest

from music_genre.classifier import GenreClassifier
from music_genre.demo import page as page_module
from music_genre.demo import server
from tests.page_client import Visitor

META = {"meta": {"_type": "gradio.FileData"}}
FILE_COMPONENTS = ("audio", "file")
NAME = "song.wav"
FORMS = {
    "plain": "{path}",
    "dots": "{uploads}/x/../{up}{path}",
    "dots in a folder that is there": "{uploads}/sent/../{up}{path}",
    "http": "http://127.0.0.1/..{up}{path}",
    "https": "https://127.0.0.1/..{up}{path}",
    "http without a host": "http://../{up}{path}",
    "http to gradio": "http://127.0.0.1/gradio_api/file={path}",
    "http in capitals": "HTTP://x/..{up}{path}",
    "file": "file://{path}",
    "quoted": "http://127.0.0.1/%2e%2e{up}{path}",
    "null": "{path}\0",
}
FIELDS = {
    "stream": META | {"is_stream": True},
    "no stream": META,
    "no meta": {"is_stream": True},
    "orig_name": META | {"is_stream": True, "orig_name": "innocent.mp3", "size": 3},
    "url": META | {"is_stream": True, "url": "http://127.0.0.1/song.mp3"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`secret` holds a song, `nothing` does not; `uploads` is where the page keeps files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def site(folder, jazz_model):
    for name in ("uploads/sent", "secret", "nothing"):
        (folder / name).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        page = page_module.build(GenreClassifier(jazz_model, device="cpu"))
        _, url, _ = server.serve(
            page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True
        )
        yield Site(url)
        page.close()


class Site:
    """The page's functions that take a file, and the ways to call them."""

    def __init__(self, url):
        self.visitor = Visitor(url.rstrip("/"))
        config = httpx.get(f"{url}config").json()
        kinds = {one["id"]: one["type"] for one in config["components"]}
        self.functions = [
            (one["id"], one["api_name"], [kinds[i] for i in one["inputs"]])
            for one in config["dependencies"]
            if one["backend_fn"] and any(kinds[i] in FILE_COMPONENTS for i in one["inputs"])
        ]

    def answers(self, file):
        """What all functions say to a file, by all ways."""
        for fn_index, name, kinds in self.functions:
            data = [{"audio": file, "file": [file]}.get(kind) for kind in kinds]
            yield fn_index, "queue", self.by_queue(fn_index, data)
            body = {"fn_index": fn_index, "data": data, "session_hash": uuid.uuid4().hex}
            yield fn_index, "run", self.visitor.http.post("/run/predict", json=body).text
            yield fn_index, "call", self.by_call(name, data)

    def by_queue(self, fn_index, data):
        try:
            outputs = self.visitor.ask(fn_index, data, uuid.uuid4().hex)
        except httpx.HTTPStatusError as error:
            return error.response.text
        return json.dumps([[output.get("error"), output.get("data")] for output in outputs])

    def by_call(self, name, data):
        event = self.visitor.http.post(f"/call/{name}", json={"data": data}).json()["event_id"]
        return self.visitor.http.get(f"/call/{name}/{event}").text


def assert_none_is_told_apart(site, there, not_there, fields):
    answers = list(site.answers({"path": str(there)} | fields))
    others = list(site.answers({"path": str(not_there)} | fields))
    for (fn_index, way, answer), (*_, other) in zip(answers, others, strict=True):
        assert without_times(answer) == without_times(other), (fn_index, way)


def without_times(text):
    try:
        answer = json.loads(text)
    except ValueError:
        return text
    for key in ("duration", "average_duration"):
        if isinstance(answer, dict):
            answer.pop(key, None)
    return json.dumps(answer)


@pytest.mark.parametrize(
    ("form", "fields"),
    [(form, "stream") for form in FORMS]
    + [(form, name) for form in ("plain", "http") for name in FIELDS],
)
def test_a_song_of_the_server_is_as_one_that_is_not_there(site, folder, song, form, fields):
    (folder / "secret" / NAME).write_bytes(song.read_bytes())
    uploads, up = folder / "uploads", "/.." * 20
    there, not_there = (
        FORMS[form].format(uploads=uploads, up=up, path=folder / name / NAME)
        for name in ("secret", "nothing")
    )
    assert_none_is_told_apart(site, there, not_there, FIELDS[fields])


@pytest.mark.parametrize("path", ["/proc/self/fd/0", "/dev/zero"])
def test_what_is_no_file_is_not_read(site, path):
    there = f"http://x/../../../../../..{path}"
    not_there = there.replace(path, f"/nothing/{os.path.basename(path)}")
    assert_none_is_told_apart(site, there, not_there, FIELDS["stream"])


def test_links_pipes_and_folders_among_the_uploads_are_not_read(site, folder, song):
    (folder / "secret" / NAME).write_bytes(song.read_bytes())
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
        assert_none_is_told_apart(
            site, sent / there / NAME, sent / not_there / NAME, FIELDS["stream"]
        )


def test_a_file_that_is_named_as_live_sound_is_not_deleted(site, folder, song):
    secret = folder / "secret" / "audio.wav"
    secret.write_bytes(song.read_bytes())
    list(site.answers({"path": f"http://x/..{'/..' * 20}{secret}"} | FIELDS["stream"]))
    assert secret.is_file()


def test_a_file_that_was_sent_is_classified(site, song):
    path = site.visitor.http.post("/upload", files={"files": song.read_bytes()}).json()[0]
    answers = list(site.answers({"path": path} | META))
    n_classified = sum(way == "call" and "jazz" in answer for _, way, answer in answers)
    assert n_classified == 4, "Song, Files and both endpoints"
