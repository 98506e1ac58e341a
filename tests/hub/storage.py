"""Repositories and their files in a folder: repos/*.json, blobs/SHA1, lfs/SHA256."""

import hashlib
import json
import time
from pathlib import Path

LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".pt", ".npy", ".zip")  # as in .gitattributes
GITATTRIBUTES = "".join(f"*{s} filter=lfs diff=lfs merge=lfs -text\n" for s in LFS_SUFFIXES)
LFS_BYTES = 10_000_000  # above this any file goes to LFS


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Storage:
    """Repositories and their files in a folder: repos/*.json, blobs/SHA1, lfs/SHA256."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("repos", "blobs", "lfs"):
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

    def commit(
        self, repo: dict, message: str, files: dict[str, dict], oid: str | None = None
    ) -> str:
        parent = repo["commits"][-1]["oid"] if repo["commits"] else None
        content = json.dumps([parent, message, files, time.time_ns()]).encode()
        oid = oid or hashlib.sha1(content).hexdigest()
        repo["commits"].append({"oid": oid, "message": message, "files": files})
        self.save(repo)
        return oid
