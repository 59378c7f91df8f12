"""The ASGI application: routes, error shapes, the envelope. One per Gateway.

Knows nothing of processes, sockets or signals; `server` does.
"""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from firefront.core.errors import FirefrontError
from firefront.gateway import (
    chat,
    completions,
    docs,
    files,
    health,
    models,
    openapi,
    schemas_check,
    stored_completions,
    tokens,
)
from firefront.gateway.anthropic import routes as anthropic
from firefront.gateway.error_shapes import error_response
from firefront.gateway.errors import http_error
from firefront.gateway.middleware import Envelope
from firefront.gateway.responses import routes as responses
from firefront.gateway.responses import stored_routes as stored_responses
from firefront.gateway.responses.background import BackgroundRuns
from firefront.gateway.state import Gateway, version


def create_app(gateway: Gateway) -> FastAPI:
    """The application that serves `gateway`."""
    app = FastAPI(
        title="firefront",
        version=version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    app.state.background = BackgroundRuns()
    for module in (
        chat, completions, responses, stored_responses, anthropic, stored_completions, files,
        models, tokens, schemas_check, health, docs,
    ):  # fmt: skip
        app.include_router(module.router)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_document() -> Response:
        return JSONResponse(openapi.document(app))

    app.add_exception_handler(FirefrontError, _firefront_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Envelope, gateway=gateway, allowed_hosts=gateway.settings.allowed_hosts)
    return app


async def _firefront_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FirefrontError)
    return error_response(request.scope, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allow = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
    response = error_response(request.scope, http_error(request, error.status_code))
    if allow is not None:
        response.headers["allow"] = allow
    return response
