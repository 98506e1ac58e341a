"""Who asks, and for which repository and commit; how a request is refused."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

WRITER, READER = "hf_testWriterTokenOfYou", "hf_testReaderTokenOfYou"
USERS = {WRITER: ("you", "write"), READER: ("you", "read")}


class HubError(Exception):
    """Answered as the Hub does: the reason in headers and in a JSON body."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: object) -> None:
        self.status, self.message, self.code, self.more = status, message, code, more


def error_response(error: HubError) -> JSONResponse:
    headers = {"X-Error-Message": error.message} | (
        {"X-Error-Code": error.code} if error.code else {}
    )
    for name in ("X-Repo-Commit",):
        if name in error.more:
            headers[name] = error.more.pop(name)
    return JSONResponse({"error": error.message} | error.more, error.status, headers)


async def answer_error(request: Request, error: HubError) -> Response:
    return error_response(error)


def hub_of(request: Request):  # -> HubDouble, which imports this module
    return request.app.state.hub


def user_of(request: Request) -> tuple[str | None, str]:
    """Name and role; (None, "") without a token. A wrong token is refused wherever it is shown."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not token:
        return None, ""
    if token not in USERS:
        raise HubError(401, "Invalid credentials in Authorization header")
    return USERS[token]


def repo_of(request: Request, kind: str | None = None) -> dict:
    """The repository in the path, if the one who asks may read it."""
    name, _ = user_of(request)
    path = request.path_params
    kind = kind or path.get("kind", "models")
    repo = hub_of(request).storage.load(kind, f"{path['owner']}/{path['name']}")
    if repo is None or (repo["private"] and path["owner"] != name):
        raise HubError(404 if name else 401, "Repository not found", "RepoNotFound")
    return repo


def writable_repo(request: Request, kind: str | None = None) -> dict:
    repo = repo_of(request, kind)
    name, role = user_of(request)
    if not name:
        raise HubError(401, "Invalid username or password.")
    if repo["id"].split("/")[0] != name or role != "write":
        raise HubError(403, "Forbidden: you must have write access to this repository")
    return repo


def commit_of(request: Request, repo: dict) -> dict:
    """The commit that the path's revision (branch, tag, hash; by default main) names."""
    revision = request.path_params.get("revision", "main")
    wanted = repo["tags"].get(revision, revision)
    for commit in reversed(repo["commits"]):
        if wanted in ("main", commit["oid"]):
            return commit
    raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
