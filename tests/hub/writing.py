"""Requests that make repositories and change what is in them."""

import base64
import hashlib
import json
import re

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.access import HubError, commit_of, hub_of, repo_of, user_of, writable_repo
from tests.hub.storage import LFS_BYTES, LFS_SUFFIXES

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


async def whoami(request: Request) -> Response:
    name, role = user_of(request)
    if not name:
        raise HubError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": role}
    return JSONResponse({"type": "user", "name": name, "orgs": [], "auth": {"accessToken": token}})


async def create_repo(request: Request) -> Response:
    hub, body = hub_of(request), await request.json()
    user, role = user_of(request)
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
    writable_repo(request) if request.url.path.endswith("/write") else repo_of(request)
    return JSONResponse({})


async def xet_token(request: Request) -> Response:
    raise HubError(403, "This Hub has no Xet storage")


async def create_tag(request: Request) -> Response:
    repo = writable_repo(request)
    repo["tags"][(await request.json())["tag"]] = commit_of(request, repo)["oid"]
    hub_of(request).storage.save(repo)
    return JSONResponse({})


async def set_variable(request: Request) -> Response:
    repo, body = writable_repo(request, "spaces"), await request.json()
    repo["variables"][body["key"]] = {"key": body["key"], "value": body["value"]}
    hub_of(request).storage.save(repo)
    return JSONResponse(repo["variables"])


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
    hub, repo = hub_of(request), writable_repo(request)
    head = commit_of(request, repo)["files"]
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
    hub, repo, body = hub_of(request), writable_repo(request), await request.json()
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
                "upload": {"href": f"{hub.storage_host}/storage/upload/{oid}?signature=x"},
                "verify": {"href": verify},
            }
        objects.append(entry)
    return JSONResponse({"transfer": "basic", "objects": objects})


async def upload(request: Request) -> Response:
    hub, oid, content = hub_of(request), request.path_params["oid"], await request.body()
    if hashlib.sha256(content).hexdigest() != oid:
        raise HubError(400, "The content is not what its hash says")
    hub.storage.lfs_path(oid).write_bytes(content)
    return Response(headers={"ETag": f'"{oid[:32]}"'})


async def lfs_verify(request: Request) -> Response:
    writable_repo(request)
    body = await request.json()
    path = hub_of(request).storage.lfs_path(body["oid"])
    if not path.is_file() or path.stat().st_size != body["size"]:
        raise HubError(404, "The object is not there")
    return JSONResponse({})


async def commit(request: Request) -> Response:
    hub, repo = hub_of(request), writable_repo(request)
    head = commit_of(request, repo)
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
