"""How the demo takes each of the files of hostile_inputs.py.

    python tests/hostile_audio.py --model runs/quickstart

Each goes through what a visitor's file goes through: `uploads.classify_upload`, its JSON and its
pictures. It passes if it ends, within seconds, in an answer or in one sentence that shows no path;
if no other host was asked; and if no file beside it was opened. Prints counts, the slowest and the
peak memory.
"""

import argparse
import ctypes
import faulthandler
import json
import os
import re
import resource
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from music_genre.demo import pictures, uploads
from music_genre.errors import InputError
from tests.hostile_inputs import all_inputs, by_soundfile, tone

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 20  # seconds an input; far above what any needs, as the machine may be busy


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """Collects the names of what anyone opens in the folder, in C or in Python (Linux's inotify).

    Python's own audit hooks do not see what FFmpeg opens.
    """
    libc, opened = ctypes.CDLL(None, use_errno=True), []
    watch = libc.inotify_init1(os.O_NONBLOCK)
    if libc.inotify_add_watch(watch, os.fsencode(folder), 0x20) < 0:  # IN_OPEN
        raise OSError(ctypes.get_errno(), "inotify")
    try:
        yield opened
        while True:
            try:
                events = os.read(watch, 65536)
            except BlockingIOError:
                break
            while events:
                size = int.from_bytes(events[12:16], "little")
                opened.append(events[16 : 16 + size].rstrip(b"\0").decode())
                events = events[16 + size :]
    finally:
        os.close(watch)


@contextmanager
def listening() -> Iterator[tuple[int, list]]:
    """A port of this machine, and who connected to it."""
    visits = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                while True:
                    connection, address = server.accept()
                    visits.append(address)
                    connection.close()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], visits
        server.shutdown(socket.SHUT_RDWR)


def judge(classifier, path: Path, folders: tuple[str, ...]) -> tuple[str, str]:
    """("answer", "") or ("sentence", it), or what is wrong and where."""
    try:
        result = uploads.classify_upload(classifier, path)
        json.dumps(result.as_json(), allow_nan=False)
        text = re.sub('base64,[^"]*', "", "".join(result.as_html()))
        return ("answer", "") if "nan" not in text.lower() else ("not a number", text[:300])
    except InputError as error:
        said = str(error)
        if (
            "\n" in said
            or any(folder in said for folder in folders)
            or "Traceback" in said
            or len(said) > 500
        ):
            return "a path, lines or too much", said
        if "<" in pictures.headline(said, "", "error").split('">', 2)[2].split("</p>")[0]:
            return "not escaped", said
        return "sentence", said
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}"


def run(classifier, folder: Path) -> list[tuple[str, str, str, float, int]]:
    """(name, outcome, text, seconds, peak memory so far in bytes) of each input."""
    secrets, inbox, results = folder / "secrets", folder / "inbox", []
    secrets.mkdir()
    inbox.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(inbox)  # what lies there counts as sent
    secret = secrets / "secret.wav"
    secret.write_bytes(by_soundfile(tone()))
    first = inbox / "first.wav"  # decoder processes start with it, and import this file
    first.write_bytes(secret.read_bytes())
    judge(classifier, first, ())
    first.unlink()
    connections: list[str] = []
    sys.addaudithook(lambda event, _: event == "socket.connect" and connections.append(event))
    with listening() as (port, visits), watching(secrets) as opened:
        for name, data in all_inputs(secret, port).items():
            path = inbox / name.replace("/", "_")
            path.write_bytes(data)
            start = time.monotonic()
            outcome, text = judge(classifier, path, (str(folder), str(ROOT)))
            seconds = time.monotonic() - start
            path.unlink()
            if seconds > TIME_LIMIT:
                outcome = f"took {seconds:.0f} s"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            results.append((name, outcome, text, seconds, peak))
            if visits or connections:
                results.append((name, "asked another host", text, seconds, peak))
                visits.clear()
                connections.clear()
    good = [r for r in results if r[0].startswith("whole.") and r[1] == "sentence"]
    results += [(name, "a good file refused", text, *rest) for name, _, text, *rest in good]
    results += [(name, "opened another file", "", 0.0, 0) for name in opened]
    if set(os.listdir(folder)) != {"secrets", "inbox"} or os.listdir(inbox):
        results.append(("all", "left files behind", str(os.listdir(folder)), 0.0, 0))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model's folder")
    arguments = parser.parse_args()
    faulthandler.enable()
    from music_genre.classifier import GenreClassifier

    classifier = GenreClassifier(arguments.model, device="cpu")
    classifier(tone(), 44_100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        results = run(classifier, Path(folder))
    wrong = [result for result in results if result[1] not in ("answer", "sentence")]
    for name, outcome, text, *_ in wrong:
        print(f"WRONG {name!r}: {outcome}: {text}")
    slowest = max(results, key=lambda result: result[3])
    print(f"{len(results)} inputs: {dict(Counter(result[1] for result in results))}")
    print(f"slowest {slowest[3]:.2f} s, {slowest[0]!r}")
    print(f"peak memory {results[-1][4] / 2**20:.0f} MB, {before:.0f} MB before the first")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
