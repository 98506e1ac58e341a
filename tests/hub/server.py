"""The server itself: starts and stops, notes every request, and breaks some of them on purpose."""

import re
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.hub import jobs, reading, writing
from tests.hub.access import WRITER, HubError, answer_error, error_response
from tests.hub.storage import LFS_SUFFIXES, Storage


@dataclass
class Fault:
    """What goes wrong with requests whose method and path (a regular expression) fit."""

    method: str
    path: str
    status: int | None = None  # answer with it
    cut_after: int | None = None  # bytes of body, in or out, before the connection is cut
    times: float = float("inf")
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Exchange:
    """One request as it came in. `status` is None if there was no answer."""

    method: str
    path: str
    headers: dict[str, str]
    n_received: int = 0  # bytes of body
    status: int | None = None


REPO = "/{owner}/{name}"
API = "/api/{kind:str}" + REPO
ROUTES: list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]] = [
    ("/api/whoami-v2", writing.whoami, ["GET"]),
    ("/api/repos/create", writing.create_repo, ["POST"]),
    ("/api/validate-yaml", writing.validate_yaml, ["POST"]),
    ("/api/jobs/hardware", jobs.hardware, ["GET"]),
    ("/api/jobs/{owner}", jobs.create_job, ["POST"]),
    ("/api/jobs/{owner}/{job}", jobs.job_info, ["GET"]),
    ("/api/jobs/{owner}/{job}/logs", jobs.job_logs, ["GET"]),
    (
        "/api/resolve-cache/{kind}" + REPO + "/{revision}/{path:path}",
        reading.resolve_cache,
        ["GET"],
    ),
    ("/api/spaces" + REPO + "/variables", writing.set_variable, ["POST"]),
    (API + "/auth-check", writing.auth_check, ["GET"]),
    (API + "/auth-check/write", writing.auth_check, ["GET"]),
    (API + "/xet-write-token/{revision}", writing.xet_token, ["GET"]),
    (API + "/preupload/{revision}", writing.preupload, ["POST"]),
    (API + "/commit/{revision}", writing.commit, ["POST"]),
    (API + "/tag/{revision}", writing.create_tag, ["POST"]),
    (API + "/revision/{revision}", reading.repo_info, ["GET"]),
    (API + "/tree/{revision}", reading.tree, ["GET"]),
    (API + "/tree/{revision}/{path:path}", reading.tree, ["GET"]),
    (API + "/paths-info/{revision}", reading.paths_info, ["POST"]),
    (API, reading.repo_info, ["GET"]),
    ("/storage/upload/{oid}", writing.upload, ["PUT"]),
    ("/storage/lfs/{oid}", reading.download, ["GET"]),
    *(
        route
        for prefix in ("", "/{kind}")
        for route in (
            (prefix + "/{owner}/{name}.git/info/lfs/objects/batch", writing.lfs_batch, ["POST"]),
            (prefix + "/{owner}/{name}.git/info/lfs/verify", writing.lfs_verify, ["POST"]),
            (prefix + REPO + "/resolve/{revision}/{path:path}", reading.resolve, ["GET"]),
        )
    ),
]


class HubDouble:
    """The server, in a thread. `requests`: all that came in. `faults`: what is to go wrong."""

    def __init__(self, root: Path) -> None:
        self.storage = Storage(root)
        self.requests: list[Exchange] = []
        self.faults: list[Fault] = []
        self.jobs: list[dict] = []  # each with the "spec" that was submitted
        self.job_log: list[str] = []  # what every job prints
        self.job_ends_as, self.job_message = "COMPLETED", None
        self.machine: jobs.Machine | None = None  # if jobs are to be run
        self.process: subprocess.Popen | None = None  # of the last job that it runs
        app = Starlette(
            routes=[Route(path, handler, methods=methods) for path, handler, methods in ROUTES],
            exception_handlers={HubError: answer_error},
        )
        app.state.hub = self
        config = uvicorn.Config(
            _Wire(app, self), host="127.0.0.1", port=0, log_level="error", lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "HubDouble":
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("The double of the Hub does not start.")
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.storage_host = f"http://localhost:{port}"  # for the client, another host than the Hub
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def environment(self, hf_home: Path, token: str | None = WRITER) -> dict[str, str]:
        """For a client's process. A variable that must not be there is empty."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": token or "",
            "HF_HOME": str(hf_home),
            "HF_HUB_OFFLINE": "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def add_repo(self, repo_id: str, private: bool = False, kind: str = "models") -> None:
        self.storage.create(kind, repo_id, private)

    def push(
        self,
        repo_id: str,
        files: dict[str, bytes],
        commit: str | None = None,
        kind: str = "models",
    ) -> None:
        """Somebody makes a public repository of these files, as this commit: path -> content."""
        repo = self.storage.create(kind, repo_id, private=False)
        entries = {
            path: (self.storage.lfs if path.endswith(LFS_SUFFIXES) else self.storage.blob)(content)
            for path, content in files.items()
        }
        self.storage.commit(repo, "Upload", repo["commits"][-1]["files"] | entries, commit)

    def files(self, repo_id: str, kind: str = "models") -> dict[str, bytes]:
        """Path -> content at the head of a repository."""
        repo = self.storage.load(kind, repo_id)
        files = repo["commits"][-1]["files"]
        return {path: self.storage.read(entry) for path, entry in files.items()}

    def commits(self, repo_id: str, kind: str = "models") -> list[dict]:
        """Without the one that makes the repository."""
        return self.storage.load(kind, repo_id)["commits"][1:]

    def sent(self, method: str, path: str) -> list[Exchange]:
        """Requests of a method whose path fits a regular expression."""
        return [r for r in self.requests if r.method == method and re.search(path, r.path)]


class _Wire:
    """Between uvicorn and the application: notes every request and breaks some of them."""

    def __init__(self, app: Starlette, hub: HubDouble) -> None:
        self.app, self.hub = app, hub

    def _fault(self, exchange: Exchange) -> Fault | None:
        for fault in self.hub.faults:
            fits = fault.method == exchange.method and re.search(fault.path, exchange.path)
            if fits and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        headers = {k.decode().lower(): v.decode("latin-1") for k, v in scope["headers"]}
        exchange = Exchange(scope["method"], scope["path"], headers)
        self.hub.requests.append(exchange)
        fault = self._fault(exchange) or Fault("", "")
        transport = receive.__self__.transport  # uvicorn's: ASGI has no word for cutting the line
        n_sent = 0

        async def count_in() -> dict:
            message = await receive()
            exchange.n_received += len(message.get("body", b""))
            if _is_over(fault.cut_after, exchange.n_received):
                transport.abort()
            return message if not transport.is_closing() else {"type": "http.disconnect"}

        async def count_out(message: dict) -> None:
            nonlocal n_sent
            if transport.is_closing():
                return
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            body = message.get("body", b"")
            if _is_over(fault.cut_after, n_sent + len(body)):
                part = message | {"body": body[: fault.cut_after - n_sent], "more_body": True}
                await send(part)
                transport.close()  # after what is written, however slowly the client reads
                return
            n_sent += len(body)
            await send(message)

        if fault.status:
            while (await count_in()).get("more_body"):
                pass
            error = HubError(fault.status, f"The double was told to answer {fault.status}.")
            response = error_response(error)
            response.headers.update(fault.headers)
            await response(scope, count_in, count_out)
            return
        try:
            await self.app(scope, count_in, count_out)
        except Exception:
            if not transport.is_closing():
                raise
        while transport.is_closing() and (await receive())["type"] != "http.disconnect":
            pass  # until uvicorn knows, and does not miss an answer


def _is_over(limit: int | None, n: int) -> bool:
    return limit is not None and n > limit
