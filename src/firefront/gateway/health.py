"""Probes and metrics: /livez, /readyz, /health, /metrics. They wait for no replica and no lock."""

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from firefront.gateway.state import Gateway

router = APIRouter(tags=["operations"])


@router.api_route("/livez", methods=["GET", "HEAD"], summary="Is the process alive?")
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


@router.api_route("/readyz", methods=["GET", "HEAD"], summary="Would a request be served now?")
async def readyz(request: Request) -> Response:
    """200 when every model is served; 503 while one loads, restarts or the server drains."""
    return await _readiness(request)


@router.api_route("/health", methods=["GET", "HEAD"], summary="The same as /readyz")
async def health(request: Request) -> Response:
    """The name that other servers use for it."""
    return await _readiness(request)


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """firefront_* and, with the same values, the vllm:* names."""
    gateway: Gateway = request.app.state.gateway
    return Response(gateway.telemetry.text(), media_type=CONTENT_TYPE_LATEST)
