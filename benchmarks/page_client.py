"""The page as a program sees it, over HTTP: for soak.py, start_up.py and the tests."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600  # seconds; with many clients a file waits for its turn


@dataclass
class Server:
    address: str
    pid: int
    cache: Path  # where it keeps the files of visitors
    log: Path

    def resident(self) -> tuple[float, float]:
        """Memory of the server and of all its decoder processes, in megabytes."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        decoders = 0.0
        for pid in (pid for path in children for pid in path.read_text().split()):
            with suppress(OSError, IndexError):  # it has just ended
                # One that is being started is still a copy of the server.
                if b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    decoders += _resident(pid)
        return _resident(self.pid), decoders

    def files(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


def _resident(pid: int | str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def serving(model: str, folder: Path, **environment: str) -> Iterator[Server]:
    """Run app.py as a process of its own, with its temporary files in `folder`.

    It takes the first free port itself, and prints it: a port chosen here could be taken before.
    """
    cache, log = folder / "cache", folder / "log"
    cache.mkdir(parents=True)
    own = {"GRADIO_TEMP_DIR": str(cache), "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py", "--model", model],
            cwd=ROOT,
            env={**os.environ, **own, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(f"app.py did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield Server(found[0], process.pid, cache, log)
    finally:
        process.terminate()
        process.wait(30)


class Visitor:
    """One client with connections of its own. Every method raises httpx.HTTPStatusError."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=f"{address}/gradio_api", timeout=TIMEOUT)

    def upload(self, name: str, data: bytes) -> dict:
        response = self.http.post("/upload", files={"files": (name, data)})
        meta = {"_type": "gradio.FileData"}
        return {"path": response.raise_for_status().json()[0], "orig_name": name, "meta": meta}

    def call(self, endpoint: str, data: object) -> tuple[str, object]:
        """Return ("complete", the result) or ("error", the message)."""
        start = self.http.post(f"/call/{endpoint}", json={"data": [data]}).raise_for_status()
        result = self.http.get(f"/call/{endpoint}/{start.json()['event_id']}").raise_for_status()
        event, content = result.text.strip().split("\n\n")[-1].split("\ndata: ")
        return event.removeprefix("event: "), json.loads(content)


@dataclass
class LiveResult:
    """What came of one time of listening."""

    latencies: list[float] = field(default_factory=list)  # seconds from sending to the answer
    n_sent: int = 0
    n_lost: int = 0  # replaced by the next chunk before the server took them
    error: str = ""


class Listener(Visitor):
    """Sends chunks as the page does: one a second, whether or not the last one was answered.

    Call `listen` once.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        config = self.http.get(f"{address}/config").raise_for_status().json()
        self.function = next(
            entry["id"]
            for entry in config["dependencies"]
            if any(event == "stream" for _, event in entry["targets"])
        )
        self.session = uuid.uuid4().hex
        self.result, self.lock, self.answered = LiveResult(), threading.Lock(), threading.Event()
        self.in_work: float | None = None  # when the chunk that the server processes was sent
        self.waiting: list[float] = []  # when the chunks after it were sent
        self.headlines: list = []  # HTML, of each answer

    def listen(self, chunks: list[bytes], every: float = 1.0) -> LiveResult:
        join = self.http.post("/queue/join", json=self._body(chunks[0])).raise_for_status()
        event = join.json()["event_id"]
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        if not self.answered.wait(TIMEOUT):  # a fifth listener waits for its turn
            raise TimeoutError("no answer to the first chunk")
        start = time.monotonic()
        for i, chunk in enumerate(chunks[1:], 1):
            time.sleep(max(0.0, start + i * every - time.monotonic()))
            body = self._body(chunk)
            self.http.post(f"/stream/{event}", json=body).raise_for_status()
        time.sleep(2 * every)
        self.http.post(f"/stream/{event}/close")
        reader.join(TIMEOUT)
        return self.result

    def _body(self, chunk: bytes) -> dict:
        with self.lock:
            self.result.n_sent += 1
            now = time.monotonic()
            if self.in_work is None:
                self.in_work = now
            else:
                self.waiting.append(now)
        file = self.upload("audio.wav", chunk) | {"is_stream": True}
        return {"fn_index": self.function, "session_hash": self.session, "data": [file, None]}

    def _read(self) -> None:
        request = self.http.stream("GET", "/queue/data", params={"session_hash": self.session})
        with request as response:
            for line in response.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {"msg": ""}
                if message["msg"] == "process_streaming":
                    self.headlines.append(message["output"]["data"][1])
                    self._take_answer()
                elif message["msg"] in ("process_completed", "close_stream"):
                    if not message.get("success", True):
                        self.result.error = str(message.get("output"))
                    self.answered.set()
                    return

    def _take_answer(self) -> None:
        with self.lock:
            # The first chunk may wait for a turn, so it is no latency.
            if self.in_work is not None and self.answered.is_set():
                self.result.latencies.append(time.monotonic() - self.in_work)
            # The server keeps one chunk that waits, the newest.
            self.result.n_lost += max(0, len(self.waiting) - 1)
            self.in_work = self.waiting[-1] if self.waiting else None
            self.waiting.clear()
        self.answered.set()
