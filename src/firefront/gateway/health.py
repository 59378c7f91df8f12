"""Probes and metrics: /livez, /readyz, /health, /ping, /load, /version, /metrics.

They wait for no replica and no lock.
"""

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from firefront.gateway.openapi import answers
from firefront.gateway.state import Gateway, version

router = APIRouter(tags=["operations"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


async def _readiness(request: Request) -> Response:
    gateway: Gateway = request.app.state.gateway
    reasons = gateway.not_ready()
    if not reasons:
        return JSONResponse({"status": "ok"})
    error: dict[str, Any] = {
        "message": "not ready: " + "; ".join(reasons),
        "type": "overloaded_error",
        "param": None,
        "code": "not_ready",
    }
    return JSONResponse({"error": error}, status_code=503, headers={"retry-after": "2"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Would a request be served now?")
async def readyz(request: Request) -> Response:
    """200 when every model is served; 503 while one loads, restarts or the server drains."""
    return await _readiness(request)


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="The same as /readyz")
async def health(request: Request) -> Response:
    """The name that other servers use for it."""
    return await _readiness(request)


@router.post("/ping", include_in_schema=False)
@router.get("/ping", summary="The same as /readyz")
async def ping(request: Request) -> Response:
    """The name that SageMaker uses for it."""
    return await _readiness(request)


@router.get("/load", summary="How much is asked at once")
async def load(request: Request) -> dict[str, int]:
    """Sequences under way or queued, of all models."""
    gateway: Gateway = request.app.state.gateway
    return {"server_load": sum(replica.num_pending for replica in gateway.router.replicas)}


@router.get("/version", summary="The version that runs")
async def server_version() -> dict[str, str]:
    """Of firefront itself."""
    return {"version": version()}


@router.get(
    "/metrics", summary="Prometheus metrics", **answers({"text/plain": "Prometheus' text format"})
)
async def metrics(request: Request) -> Response:
    """firefront_* and, with the same values, the vllm:* names."""
    gateway: Gateway = request.app.state.gateway
    return Response(gateway.telemetry.text(), media_type=CONTENT_TYPE_LATEST)
