"""Requests about jobs: hardware with prices, a job, its status and its log.

A job ends at once as `HubDouble.job_ends_as` says, or is a process here if there is a `Machine`.
"""

import asyncio
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.hub.access import HubError, hub_of, user_of

HARDWARE = [
    {
        "name": name,
        "prettyName": name,
        "cpu": "4 vCPU",
        "ram": "15 GB",
        "accelerator": None,
        "unitCostMicroUSD": micro,
        "unitCostUSD": micro / 1e6,
        "unitLabel": "minute",
    }
    for name, micro in (("cpu-basic", 167), ("t4-small", 6667), ("a10g-large", 25000))
]


@dataclass
class Machine:
    """Plays the machine that runs a job's command, in a home of its own.

    Attributes:
        folder: gets `home`, and the `log` of the job.
        volumes: folder that plays the root of the mounted volumes.
        programs: folder with the programs that only the image of the job has.
        environment: of the image.
    """

    folder: Path
    volumes: Path
    programs: Path
    environment: dict[str, str]

    def start(self, spec: dict) -> subprocess.Popen:
        """The command, with the folders that play its volumes for the paths where they are."""
        home = self.folder / "home"
        home.mkdir(parents=True)
        mounts = "|".join(re.escape(one["mountPath"]) for one in spec["volumes"])
        command = [
            re.sub(rf"(?<![\w~])({mounts})\b", rf"{self.volumes}\1", part)
            for part in spec["command"]
        ]
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(home)} | self.environment | spec["secrets"]
        with self.log.open("w") as log:
            return subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)

    @property
    def log(self) -> Path:
        return self.folder / "log"


async def hardware(request: Request) -> Response:
    return JSONResponse(HARDWARE)


async def create_job(request: Request) -> Response:
    hub, spec = hub_of(request), await request.json()
    user, role = user_of(request)
    if role != "write":
        raise HubError(403, "This token may not run jobs.")
    job = {
        "id": f"job{len(hub.jobs)}",
        "owner": {"id": "1", "name": user, "type": "user"},
        "status": {"stage": hub.job_ends_as, "message": hub.job_message},
    }
    hub.jobs.append(job | {"spec": spec})
    if hub.machine:
        hub.process = hub.machine.start(spec)
    return JSONResponse(job)


def _job(request: Request) -> dict:
    for job in hub_of(request).jobs:
        if job["id"] == request.path_params["job"]:
            return job
    raise HubError(404, "There is no such job.")


async def job_info(request: Request) -> Response:
    hub, job = hub_of(request), _job(request)
    if hub.process:
        code = hub.process.poll()
        job["status"]["stage"] = {None: "RUNNING", 0: "COMPLETED"}.get(code, "ERROR")
    return JSONResponse({name: value for name, value in job.items() if name != "spec"})


async def job_logs(request: Request) -> Response:
    hub, _ = hub_of(request), _job(request)

    async def events():
        n_sent, is_over = 0, False
        while not is_over:
            is_over = hub.process is None or hub.process.poll() is not None
            lines = hub.machine.log.read_text().splitlines() if hub.machine else hub.job_log
            for line in lines[n_sent:] if is_over else lines[n_sent:-1]:
                event = {"data": line, "timestamp": "2026-01-01T00:00:00Z"}
                yield f"data: {json.dumps(event)}\n\n"
                n_sent += 1
            await asyncio.sleep(0.1)

    return StreamingResponse(events(), media_type="text/event-stream")
