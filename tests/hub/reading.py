"""Requests that read a repository: its metadata, its list of files, a file."""

import re

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from tests.hub.access import HubError, commit_of, hub_of, repo_of


async def repo_info(request: Request) -> Response:
    hub, repo = hub_of(request), repo_of(request)
    head = commit_of(request, repo)
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
            "gated": repo.get("gated", False),
            "disabled": False,
            "tags": data.get("tags", []),
            "cardData": data,
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
    head = commit_of(request, repo_of(request))
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
    head = commit_of(request, repo_of(request))
    paths = (await request.form()).getlist("paths")
    return JSONResponse([_tree_entry(p, head["files"][p]) for p in paths if p in head["files"]])


async def resolve(request: Request) -> Response:
    """LFS files: a redirect to another host. The rest: a relative one to a cached copy."""
    hub, repo = hub_of(request), repo_of(request)
    head, path = commit_of(request, repo), request.path_params["path"]
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
    hub, repo = hub_of(request), repo_of(request)
    head = commit_of(request, repo)
    entry = head["files"][request.path_params["path"]]
    headers = {"X-Repo-Commit": head["oid"], "ETag": f'"{entry["oid"]}"'}
    return _content(request, hub.storage.read(entry), headers)


async def download(request: Request) -> Response:
    if "authorization" in request.headers:  # S3 refuses two kinds of proof at once
        raise HubError(400, "Only one auth mechanism allowed")
    oid = request.path_params["oid"]
    return _content(
        request, hub_of(request).storage.lfs_path(oid).read_bytes(), {"ETag": f'"{oid}"'}
    )


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
