"""From a method and a path to an endpoint, and from its error to an answer in the API's words.

Endpoints are declared on FastAPI's routers, which describe them (`openapi`). They read their bodies
themselves and take nothing but a Request and path parameters, so serving them needs nothing of
FastAPI: it would cost each request more than everything else here.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from firefront.core.errors import FirefrontError
from firefront.gateway.error_shapes import error_response
from firefront.gateway.errors import http_error
from firefront.gateway.json_out import json_response

Endpoint = Callable[[Request], Awaitable[Response]]
_Methods = dict[str, tuple[APIRoute, Endpoint]]


class Routes:
    """The ASGI application of `routes`. `scope["route"]` is the one that was found."""

    def __init__(self, routes: Iterable[APIRoute]) -> None:
        self._exact: dict[str, _Methods] = {}
        patterns: dict[str, _Methods] = {}
        for route in routes:
            table = patterns if "{" in route.path else self._exact
            methods = table.setdefault(route.path, {})
            for method in route.methods or ():
                methods[method] = route, _endpoint(route)
        self._patterns = [(compile_path(path)[0], methods) for path, methods in patterns.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._find(request)(request)
        except FirefrontError as error:
            response = error_response(scope, error)
        await response(scope, receive, send)

    def _find(self, request: Request) -> Endpoint:
        scope = request.scope
        path, method = scope["path"], scope["method"]
        allowed: set[str] = set()
        for methods, parameters in self._matching(path):
            if method in methods:
                scope["path_params"] = parameters
                scope["route"], endpoint = methods[method]
                return endpoint
            allowed |= methods.keys()
        return _refuse(http_error(request, 405 if allowed else 404), allowed)

    def _matching(self, path: str) -> Iterable[tuple[_Methods, dict[str, str]]]:
        if path in self._exact:
            yield self._exact[path], {}
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                yield methods, match.groupdict()


def _endpoint(route: APIRoute) -> Endpoint:
    names = inspect.signature(route.endpoint).parameters.keys()
    takes_request = "request" in names
    assert names - {"request"} == route.param_convertors.keys(), route.path

    async def endpoint(request: Request) -> Response:
        given: dict[str, Any] = dict(request.path_params)
        if takes_request:
            given["request"] = request
        answer = await route.endpoint(**given)
        return answer if isinstance(answer, Response) else json_response(answer)

    return endpoint


def _refuse(error: FirefrontError, allowed: set[str]) -> Endpoint:
    async def refuse(request: Request) -> Response:
        response = error_response(request.scope, error)
        if allowed:
            response.headers["allow"] = ", ".join(sorted(allowed))
        return response

    return refuse
