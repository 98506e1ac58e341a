"""Requests about jobs: hardware with prices, a job, its status and its log."""

import json

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
        "status": {"stage": hub.job_ends_as, "message": None},
    }
    hub.jobs.append(job | {"spec": spec})
    return JSONResponse(job)


def _job(request: Request) -> dict:
    for job in hub_of(request).jobs:
        if job["id"] == request.path_params["job"]:
            return job
    raise HubError(404, "There is no such job.")


async def job_info(request: Request) -> Response:
    job = _job(request)
    return JSONResponse({name: value for name, value in job.items() if name != "spec"})


async def job_logs(request: Request) -> Response:
    _job(request)
    lines = hub_of(request).job_log

    async def events():
        for line in lines:
            event = {"data": line, "timestamp": "2026-01-01T00:00:00Z"}
            yield f"data: {json.dumps(event)}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
