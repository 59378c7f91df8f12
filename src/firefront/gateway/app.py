"""The ASGI application: routes below the envelope. One per Gateway.

Knows nothing of processes, sockets or signals; `server` does.
"""

import functools
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.datastructures import State
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from firefront.gateway import (
    adapter_routes,
    chat,
    completions,
    console,
    datasets,
    docs,
    feedback,
    files,
    health,
    models,
    openapi,
    schemas_check,
    stored_completions,
    tokens,
)
from firefront.gateway.anthropic import routes as anthropic
from firefront.gateway.evaluations import routes as evaluations
from firefront.gateway.fine_tuning import routes as fine_tuning
from firefront.gateway.json_out import json_response
from firefront.gateway.middleware import Envelope
from firefront.gateway.pipelines import routes as pipelines
from firefront.gateway.responses import conversation_routes as conversations
from firefront.gateway.responses import routes as responses
from firefront.gateway.responses import stored_routes as stored_responses
from firefront.gateway.responses.background import BackgroundRuns
from firefront.gateway.routing import Routes
from firefront.gateway.state import Gateway

_own = APIRouter(include_in_schema=False)


@_own.get("/openapi.json")
async def _openapi() -> Response:
    return json_response(document())


def _routes() -> list[APIRoute]:
    modules = (
        chat, completions, responses, stored_responses, conversations, anthropic,
        stored_completions, feedback, datasets, files, fine_tuning, evaluations, pipelines,
        models, adapter_routes, tokens, schemas_check, health, docs, console,
    )  # fmt: skip
    routers = [*(module.router for module in modules), _own]
    routes = [route for router in routers for route in router.routes]
    return [route for route in routes if isinstance(route, APIRoute)]


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document of every application."""
    return openapi.document(_routes())


class Application:
    """Serves `gateway`. `state`, as endpoints find it in `request.app`: `gateway`, `background`."""

    def __init__(self, gateway: Gateway) -> None:
        self.state = State()
        self.state.gateway = gateway
        self.state.background = BackgroundRuns()
        hosts = gateway.settings.allowed_hosts
        self._envelope = Envelope(Routes(_routes()), gateway=gateway, allowed_hosts=hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._envelope(scope, receive, send)
