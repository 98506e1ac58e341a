"""A small Hugging Face Hub on loopback, for the real and unpatched huggingface_hub client.

    with HubDouble(tmp_path / "hub") as hub:
        hub.faults.append(Fault("PUT", "/storage/", cut_after=1000, times=1))
        subprocess.run([...], env=os.environ | hub.environment(tmp_path / "cache"))
        assert [r.path for r in hub.requests if r.method == "PUT"] == [...]

The client reads HF_ENDPOINT when it is imported: run it in a process of its own. It speaks what
huggingface_hub 2.4 asks for (`_commit_api.py`, `lfs.py`, `file_download.py`, `hf_api.py`) when a
repository is made, written and read. Files are kept on disk, by their hashes.

What it does not cover: Xet storage (`HF_HUB_DISABLE_XET` is set; only the request for a Xet token
is there, to be refused), pull requests, branches, copies and folder deletions, gated repositories,
fine-grained tokens, resource groups, the rate limits and the exact wording of the real Hub, and
what validate-yaml knows beyond a card's shape.
"""

import asyncio
import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

WRITER, READER = "hf_testWriterTokenOfYou", "hf_testReaderTokenOfYou"
USERS = {WRITER: ("you", "write"), READER: ("you", "read")}
LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".pt", ".npy", ".zip")  # as in .gitattributes
GITATTRIBUTES = "".join(f"*{s} filter=lfs diff=lfs merge=lfs -text\n" for s in LFS_SUFFIXES)
LFS_BYTES = 10_000_000  # above this any file goes to LFS
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@dataclass
class Fault:
    """What goes wrong with requests whose method and path (a regular expression) fit."""

    method: str
    path: str
    status: int | None = None  # answer with it
    cut_after: int | None = None  # bytes of body, in or out, before the connection is cut
    hold_after: int | None = None  # bytes of body that come in before all stands still
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


class HubError(Exception):
    """Answered as the Hub does: the reason in headers and in a JSON body."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: object) -> None:
        self.status, self.message, self.code, self.more = status, message, code, more


# --- storage ----------------------------------------------------------------------------------


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Storage:
    """Repositories and their files in a folder: repos/*.json, blobs/SHA1, lfs/SHA256."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("repos", "blobs", "lfs", "parts"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def _file(self, kind: str, repo_id: str) -> Path:
        return self.root / "repos" / f"{kind}--{repo_id.replace('/', '--')}.json"

    def load(self, kind: str, repo_id: str) -> dict | None:
        file = self._file(kind, repo_id)
        return json.loads(file.read_text()) if file.is_file() else None

    def save(self, repo: dict) -> None:
        self._file(repo["kind"], repo["id"]).write_text(json.dumps(repo))

    def create(self, kind: str, repo_id: str, private: bool, **more: object) -> dict:
        repo = {"kind": kind, "id": repo_id, "private": private, "commits": [], "tags": {}} | more
        repo["variables"] = {}
        self.commit(repo, "initial commit", {".gitattributes": self.blob(GITATTRIBUTES.encode())})
        return repo

    def blob(self, content: bytes) -> dict:
        oid = git_sha1(content)
        (self.root / "blobs" / oid).write_bytes(content)
        return {"oid": oid, "size": len(content), "lfs": None}

    def lfs_path(self, sha256: str) -> Path:
        return self.root / "lfs" / sha256

    def lfs(self, content: bytes) -> dict:
        sha256 = hashlib.sha256(content).hexdigest()
        self.lfs_path(sha256).write_bytes(content)
        return self.pointer(sha256)

    def pointer(self, sha256: str) -> dict:
        """The entry of a stored LFS object; its oid is that of git's pointer file."""
        size = self.lfs_path(sha256).stat().st_size
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return {"oid": git_sha1(text.encode()), "size": size, "lfs": sha256}

    def read(self, entry: dict) -> bytes:
        if entry["lfs"]:
            return self.lfs_path(entry["lfs"]).read_bytes()
        return (self.root / "blobs" / entry["oid"]).read_bytes()

    def commit(self, repo: dict, message: str, files: dict[str, dict]) -> str:
        parent = repo["commits"][-1]["oid"] if repo["commits"] else None
        content = json.dumps([parent, message, files, time.time_ns()]).encode()
        oid = hashlib.sha1(content).hexdigest()
        repo["commits"].append({"oid": oid, "message": message, "files": files})
        self.save(repo)
        return oid


# --- the server -------------------------------------------------------------------------------


class HubDouble:
    """The server, in a thread. `requests`: all that came in. `faults`: what is to go wrong."""

    def __init__(self, root: Path, part_size: int | None = None) -> None:
        """part_size: bytes above which an LFS object goes up in several parts."""
        self.storage = Storage(root)
        self.part_size = part_size
        self.requests: list[Exchange] = []
        self.faults: list[Fault] = []
        self.held = threading.Event()
        app = Starlette(
            routes=[Route(path, handler, methods=methods) for path, handler, methods in ROUTES],
            exception_handlers={HubError: _answer_error},
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
            if fault.hold_after is not None and exchange.n_received >= fault.hold_after:
                self.hub.held.set()
                while not transport.is_closing():
                    await asyncio.sleep(0.02)
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
                await asyncio.sleep(0.05)  # let it leave
                transport.abort()
                return
            n_sent += len(body)
            await send(message)

        if fault.status:
            while (await count_in()).get("more_body"):
                pass
            error = HubError(fault.status, f"The double was told to answer {fault.status}.")
            response = _error_response(error)
            response.headers.update(fault.headers)
            await response(scope, count_in, count_out)
            return
        try:
            await self.app(scope, count_in, count_out)
        except Exception:
            if not transport.is_closing():
                raise
        if transport.is_closing():
            await asyncio.sleep(0.05)  # until uvicorn knows, and does not miss an answer


def _is_over(limit: int | None, n: int) -> bool:
    return limit is not None and n > limit


def _error_response(error: HubError) -> JSONResponse:
    headers = {"X-Error-Message": error.message} | (
        {"X-Error-Code": error.code} if error.code else {}
    )
    for name in ("X-Repo-Commit",):
        if name in error.more:
            headers[name] = error.more.pop(name)
    return JSONResponse({"error": error.message} | error.more, error.status, headers)


async def _answer_error(request: Request, error: HubError) -> Response:
    return _error_response(error)


# --- who asks, and for what -------------------------------------------------------------------


def _hub(request: Request) -> HubDouble:
    return request.app.state.hub


def _user(request: Request) -> tuple[str | None, str]:
    """Name and role; (None, "") without a token. A wrong token is refused wherever it is shown."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not token:
        return None, ""
    if token not in USERS:
        raise HubError(401, "Invalid credentials in Authorization header")
    return USERS[token]


def _repo(request: Request, kind: str | None = None) -> dict:
    """The repository in the path, if the one who asks may read it."""
    name, _ = _user(request)
    path = request.path_params
    kind = kind or path.get("kind", "models")
    repo = _hub(request).storage.load(kind, f"{path['owner']}/{path['name']}")
    if repo is None or (repo["private"] and path["owner"] != name):
        raise HubError(404 if name else 401, "Repository not found", "RepoNotFound")
    return repo


def _writable(request: Request, kind: str | None = None) -> dict:
    repo = _repo(request, kind)
    name, role = _user(request)
    if not name:
        raise HubError(401, "Invalid username or password.")
    if repo["id"].split("/")[0] != name or role != "write":
        raise HubError(403, "Forbidden: you must have write access to this repository")
    return repo


def _commit(request: Request, repo: dict) -> dict:
    """The commit that the path's revision (branch, tag, hash; by default main) names."""
    revision = request.path_params.get("revision", "main")
    wanted = repo["tags"].get(revision, revision)
    for commit in reversed(repo["commits"]):
        if wanted in ("main", commit["oid"]):
            return commit
    raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


async def whoami(request: Request) -> Response:
    name, role = _user(request)
    if not name:
        raise HubError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": role}
    return JSONResponse({"type": "user", "name": name, "orgs": [], "auth": {"accessToken": token}})


async def create_repo(request: Request) -> Response:
    hub, body = _hub(request), await request.json()
    user, role = _user(request)
    if not user:
        raise HubError(401, "Invalid username or password.")
    owner = body.get("organization") or user
    kind = f"{body.get('type', 'model')}s"
    repo_id = f"{owner}/{body['name']}"
    prefix = "" if kind == "models" else f"{kind}/"
    url = f"{hub.endpoint}/{prefix}{repo_id}"
    if owner != user or role != "write":
        raise HubError(
            403,
            f'You don\'t have the rights to create a {KINDS[kind]} under the namespace "{owner}"',
        )
    if hub.storage.load(kind, repo_id):
        raise HubError(409, f"You already created this {KINDS[kind]} repo", url=url)
    private = body.get("visibility") == "private"
    hub.storage.create(kind, repo_id, private, sdk=body.get("sdk"))
    return JSONResponse({"url": url, "name": repo_id, "id": "1"})


async def auth_check(request: Request) -> Response:
    _writable(request) if request.url.path.endswith("/write") else _repo(request)
    return JSONResponse({})


async def xet_token(request: Request) -> Response:
    raise HubError(403, "This Hub has no Xet storage")


async def create_tag(request: Request) -> Response:
    repo = _writable(request)
    repo["tags"][(await request.json())["tag"]] = _commit(request, repo)["oid"]
    _hub(request).storage.save(repo)
    return JSONResponse({})


async def set_variable(request: Request) -> Response:
    repo, body = _writable(request, "spaces"), await request.json()
    repo["variables"][body["key"]] = {"key": body["key"], "value": body["value"]}
    _hub(request).storage.save(repo)
    return JSONResponse(repo["variables"])


# --- writing ----------------------------------------------------------------------------------


async def validate_yaml(request: Request) -> Response:
    body = await request.json()
    match = re.match(r"---\r?\n(.*?)\r?\n---", body["content"], re.DOTALL)
    if not match:
        return JSONResponse({"errors": [], "warnings": [{"message": "empty or missing metadata"}]})
    try:
        errors = _card_errors(yaml.safe_load(match[1]), body["repoType"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        errors = [f"{type(error).__name__}: {error}"]
    content = {"errors": [{"message": error} for error in errors], "warnings": []}
    return JSONResponse(content, 400 if errors else 200)


def _card_errors(data: dict, repo_type: str) -> list[str]:
    """KeyError and TypeError mean a wrong shape as well."""
    errors = []
    if not isinstance(data.get("license", "mit"), str):
        errors.append('"license" must be a string')
    if repo_type == "space":
        for name in ("colorFrom", "colorTo"):
            if data[name] not in COLOURS:
                errors.append(f'"{name}" must be one of {sorted(COLOURS)}')
        if len(data.get("short_description", "")) > 60:
            errors.append('"short_description" length must be less than or equal to 60')
        if data["sdk"] not in ("gradio", "docker", "static"):
            errors.append('"sdk" must be one of gradio, docker, static')
        return errors
    for model in data.get("model-index", []):
        model["name"].lower()
        for result in model["results"]:
            result["task"]["type"].lower(), result["dataset"]["type"].lower()
            result["dataset"]["name"].lower()
            errors += [
                f'metric "{metric["type"]}" has no number'
                for metric in result["metrics"]
                if not isinstance(metric["value"], int | float)
            ]
    for example in data.get("widget", []):
        example["src"].lower()
    return errors


async def preupload(request: Request) -> Response:
    """How each file must come: by its name in .gitattributes, its size, or because it is binary."""
    hub, repo = _hub(request), _writable(request)
    head = _commit(request, repo)["files"]
    files = []
    for file in (await request.json())["files"]:
        path, sample = file["path"], base64.b64decode(file["sample"])
        is_lfs = path.endswith(LFS_SUFFIXES) or file["size"] > LFS_BYTES or b"\0" in sample
        entry = head.get(path)
        files.append(
            {
                "path": path,
                "uploadMode": "lfs" if is_lfs else "regular",
                "shouldIgnore": False,
                "oid": (entry["lfs"] or entry["oid"]) if entry else None,
            }
        )
    return JSONResponse(
        {"files": files, "commitOid": repo["commits"][-1]["oid"], "id": hub.endpoint}
    )


async def lfs_batch(request: Request) -> Response:
    """Where each object is to go; objects that are there already get no actions."""
    hub, repo, body = _hub(request), _writable(request), await request.json()
    if body["operation"] != "upload" or body["hash_algo"] != "sha256":
        raise HubError(422, "Only uploads by sha256 are understood")
    objects = []
    for item in body["objects"]:
        oid, size = item["oid"], item["size"]
        entry = {"oid": oid, "size": size}
        if not hub.storage.lfs_path(oid).is_file():
            prefix = "" if repo["kind"] == "models" else f"{repo['kind']}/"
            verify = f"{hub.endpoint}/{prefix}{repo['id']}.git/info/lfs/verify"
            entry["actions"] = {
                "upload": _upload_action(hub, oid, size),
                "verify": {"href": verify},
            }
        objects.append(entry)
    return JSONResponse({"transfer": "basic", "objects": objects})


def _upload_action(hub: HubDouble, oid: str, size: int) -> dict:
    if hub.part_size is None or size <= hub.part_size:
        return {"href": f"{hub.storage_host}/storage/upload/{oid}?signature=x"}
    n_parts = -(-size // hub.part_size)
    parts = {
        str(i): f"{hub.storage_host}/storage/part/{oid}/{i}?signature=x"
        for i in range(1, n_parts + 1)
    }
    return {
        "href": f"{hub.endpoint}/api/complete_multipart?oid={oid}",
        "header": {"chunk_size": str(hub.part_size)} | parts,
    }


async def upload(request: Request) -> Response:
    hub, oid, content = _hub(request), request.path_params["oid"], await request.body()
    if hashlib.sha256(content).hexdigest() != oid:
        raise HubError(400, "The content is not what its hash says")
    hub.storage.lfs_path(oid).write_bytes(content)
    return Response(headers={"ETag": f'"{oid[:32]}"'})


async def upload_part(request: Request) -> Response:
    path = request.path_params
    content = await request.body()
    (_hub(request).storage.root / "parts" / f"{path['oid']}.{path['part']}").write_bytes(content)
    return Response(headers={"ETag": f'"{hashlib.md5(content).hexdigest()}"'})


async def complete_multipart(request: Request) -> Response:
    hub, body = _hub(request), await request.json()
    content = b""
    for part in body["parts"]:
        path = hub.storage.root / "parts" / f"{body['oid']}.{part['partNumber']}"
        content += path.read_bytes()
        if part["etag"] != f'"{hashlib.md5(path.read_bytes()).hexdigest()}"':
            raise HubError(400, "A part is not what its ETag says")
    if hashlib.sha256(content).hexdigest() != body["oid"]:
        raise HubError(400, "The content is not what its hash says")
    hub.storage.lfs_path(body["oid"]).write_bytes(content)
    return JSONResponse({})


async def lfs_verify(request: Request) -> Response:
    _writable(request)
    body = await request.json()
    path = _hub(request).storage.lfs_path(body["oid"])
    if not path.is_file() or path.stat().st_size != body["size"]:
        raise HubError(404, "The object is not there")
    return JSONResponse({})


async def commit(request: Request) -> Response:
    hub, repo = _hub(request), _writable(request)
    head = _commit(request, repo)
    lines = [json.loads(line) for line in (await request.body()).splitlines()]
    header = lines[0]["value"]
    if header.get("parentCommit") not in (None, head["oid"]):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head["files"])
    for line in lines[1:]:
        key, value = line["key"], line["value"]
        if key == "file":
            files[value["path"]] = hub.storage.blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not hub.storage.lfs_path(value["oid"]).is_file():
                raise HubError(400, f"The LFS object of {value['path']} was not uploaded")
            files[value["path"]] = hub.storage.pointer(value["oid"])
        elif key == "deletedFile":
            if files.pop(value["path"], None) is None:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            raise HubError(400, f"Operation {key} is not understood")
    oid = hub.storage.commit(repo, header["summary"], files)
    prefix = "" if repo["kind"] == "models" else f"{repo['kind']}/"
    url = f"{hub.endpoint}/{prefix}{repo['id']}/commit/{oid}"
    return JSONResponse({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


# --- reading ----------------------------------------------------------------------------------


async def repo_info(request: Request) -> Response:
    hub, repo = _hub(request), _repo(request)
    head = _commit(request, repo)
    card = re.match(r"---\n(.*?)\n---", hub.files(repo["id"], repo["kind"]).get(
        "README.md", b"").decode(), re.DOTALL)  # fmt: skip
    data = yaml.safe_load(card[1]) if card else {}
    return JSONResponse(
        {
            "_id": "1",
            "id": repo["id"],
            "author": repo["id"].split("/")[0],
            "sha": head["oid"],
            "private": repo["private"],
            "gated": False,
            "disabled": False,
            "tags": data.get("tags", []),
            "siblings": [{"rfilename": path} for path in sorted(head["files"])],
        }
        | ({"pipeline_tag": data.get("pipeline_tag")} if repo["kind"] == "models" else {})
        | ({"sdk": repo["sdk"]} if repo["kind"] == "spaces" else {})
    )


def _tree_entry(path: str, entry: dict) -> dict:
    item = {"type": "file", "oid": entry["oid"], "size": entry["size"], "path": path}
    if entry["lfs"]:
        item["lfs"] = {"oid": entry["lfs"], "size": entry["size"], "pointerSize": 130}
    return item


async def tree(request: Request) -> Response:
    head = _commit(request, _repo(request))
    folder = request.path_params.get("path", "")
    prefix = f"{folder}/" if folder else ""
    below = {p: e for p, e in head["files"].items() if p.startswith(prefix)}
    if folder and not below:
        raise HubError(404, f"{folder} does not exist on main", "EntryNotFound")
    items = {p: _tree_entry(p, e) for p, e in below.items()}
    if request.query_params.get("recursive") != "true":
        deeper = {prefix + p[len(prefix) :].split("/")[0] for p in below if "/" in p[len(prefix) :]}
        items = {p: i for p, i in items.items() if "/" not in p[len(prefix) :]}
        items |= {p: {"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in deeper}
    return JSONResponse([items[path] for path in sorted(items)])


async def paths_info(request: Request) -> Response:
    head = _commit(request, _repo(request))
    paths = (await request.form()).getlist("paths")
    return JSONResponse([_tree_entry(p, head["files"][p]) for p in paths if p in head["files"]])


async def resolve(request: Request) -> Response:
    """LFS files: a redirect to another host. The rest: a relative one to a cached copy."""
    hub, repo = _hub(request), _repo(request)
    head, path = _commit(request, repo), request.path_params["path"]
    entry = head["files"].get(path)
    if entry is None:
        code = {"code": "EntryNotFound", "X-Repo-Commit": head["oid"]}
        raise HubError(404, "Entry not found", **code)
    headers = {"X-Repo-Commit": head["oid"]}
    if entry["lfs"]:
        headers |= {"X-Linked-Size": str(entry["size"]), "X-Linked-ETag": f'"{entry["lfs"]}"'}
        url = f"{hub.storage_host}/storage/lfs/{entry['lfs']}?signature=x"
        return RedirectResponse(url, 302, headers)
    cached = f"/api/resolve-cache/{repo['kind']}/{repo['id']}/{head['oid']}/{path}"
    return RedirectResponse(cached, 307, headers)


async def resolve_cache(request: Request) -> Response:
    hub, repo = _hub(request), _repo(request)
    head = _commit(request, repo)
    entry = head["files"][request.path_params["path"]]
    headers = {"X-Repo-Commit": head["oid"], "ETag": f'"{entry["oid"]}"'}
    return _content(request, hub.storage.read(entry), headers)


async def download(request: Request) -> Response:
    if "authorization" in request.headers:  # S3 refuses two kinds of proof at once
        raise HubError(400, "Only one auth mechanism allowed")
    oid = request.path_params["oid"]
    return _content(request, _hub(request).storage.lfs_path(oid).read_bytes(), {"ETag": f'"{oid}"'})


def _content(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    """A file, or the part of it that Range asks for."""
    headers["Accept-Ranges"] = "bytes"
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not match:
        return Response(content, headers=headers, media_type="application/octet-stream")
    start, end = int(match[1]), int(match[2] or len(content) - 1)
    if start >= len(content):
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
    return Response(content[start : end + 1], 206, headers)


REPO = "/{owner}/{name}"
API = "/api/{kind:str}" + REPO
ROUTES: list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]] = [
    ("/api/whoami-v2", whoami, ["GET"]),
    ("/api/repos/create", create_repo, ["POST"]),
    ("/api/validate-yaml", validate_yaml, ["POST"]),
    ("/api/complete_multipart", complete_multipart, ["POST"]),
    ("/api/resolve-cache/{kind}" + REPO + "/{revision}/{path:path}", resolve_cache, ["GET"]),
    ("/api/spaces" + REPO + "/variables", set_variable, ["POST"]),
    (API + "/auth-check", auth_check, ["GET"]),
    (API + "/auth-check/write", auth_check, ["GET"]),
    (API + "/xet-write-token/{revision}", xet_token, ["GET"]),
    (API + "/preupload/{revision}", preupload, ["POST"]),
    (API + "/commit/{revision}", commit, ["POST"]),
    (API + "/tag/{revision}", create_tag, ["POST"]),
    (API + "/revision/{revision}", repo_info, ["GET"]),
    (API + "/tree/{revision}", tree, ["GET"]),
    (API + "/tree/{revision}/{path:path}", tree, ["GET"]),
    (API + "/paths-info/{revision}", paths_info, ["POST"]),
    (API, repo_info, ["GET"]),
    ("/storage/upload/{oid}", upload, ["PUT"]),
    ("/storage/part/{oid}/{part}", upload_part, ["PUT"]),
    ("/storage/lfs/{oid}", download, ["GET"]),
    *(
        route
        for prefix in ("", "/{kind}")
        for route in (
            (prefix + "/{owner}/{name}.git/info/lfs/objects/batch", lfs_batch, ["POST"]),
            (prefix + "/{owner}/{name}.git/info/lfs/verify", lfs_verify, ["POST"]),
            (prefix + REPO + "/resolve/{revision}/{path:path}", resolve, ["GET"]),
        )
    ),
]
