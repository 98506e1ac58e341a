"""Use the page over HTTP as a program does, for the tests and the benchmarks of the page."""

import base64
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

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
                decoders += _resident(pid)
        return _resident(self.pid), decoders

    def files(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


def _resident(pid: int | str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def serving(model: str, folder: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Run app.py as a separate process, with its temporary files in `folder`.

    It takes the first free port and prints it; a port chosen here could be taken before it starts.
    """
    cache, log = folder / "cache", folder / "log"
    cache.mkdir(parents=True)
    own = {"GRADIO_TEMP_DIR": str(cache), "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py", "--model", model, *arguments],
            cwd=ROOT,
            env={**os.environ, **own, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        while not (found := re.search(r"http://[\d.]+:\d+", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(f"app.py did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield Server(found[0], process.pid, cache, log)
    finally:
        process.terminate()
        process.wait(30)


class Visitor:
    """One client with its own connections. Every method can raise httpx.HTTPStatusError."""

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

    def ask(self, fn_index: int, data: list, session: str) -> list[dict]:
        """Call a function as the page does; returns its outputs, the last one at the end."""
        body = {"fn_index": fn_index, "data": data, "session_hash": session}
        self.http.post("/queue/join", json=body).raise_for_status()
        outputs = []
        request = self.http.stream("GET", "/queue/data", params={"session_hash": session})
        with request as response:
            for line in response.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {"msg": ""}
                if "output" in message:
                    outputs.append(message["output"])
                if message["msg"] == "process_completed":
                    break
        return outputs


@dataclass
class LiveResult:
    """The result of one time of listening."""

    latencies: list[float] = field(default_factory=list)  # seconds from sending to the answer
    headlines: list[str] = field(default_factory=list)  # HTML
    error: str = ""


class Listener(Visitor):
    """Sends sound as the page does: once a second, after the previous answer."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        config = self.http.get(f"{address}/config").raise_for_status().json()
        (button,) = (
            c["id"] for c in config["components"] if c["props"].get("elem_id") == "listener"
        )
        self.function = next(
            one["id"] for one in config["dependencies"] if [button, "input"] in one["targets"]
        )
        self.session = uuid.uuid4().hex

    def listen(
        self, chunks: list[np.ndarray], sampling_rate: int, every: float = 1.0
    ) -> LiveResult:
        """Chunks: int16, shape (samples,), at the sampling rate in hertz."""
        result, start = LiveResult(), time.monotonic()
        for i, chunk in enumerate(chunks):
            time.sleep(max(0.0, start + i * every - time.monotonic()))
            sound = {"sampling_rate": sampling_rate, "pcm": base64.b64encode(chunk).decode()}
            sent = time.monotonic()
            answer = self.ask(self.function, [sound | {"is_first": i == 0}, None], self.session)[-1]
            result.latencies.append(time.monotonic() - sent)
            if "data" not in answer:
                result.error = str(answer)
                break
            result.headlines.append(answer["data"][1])
        return result
