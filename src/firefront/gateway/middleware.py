"""The envelope of every HTTP exchange: request id, timing, limits on headers, the last resort.

Pure ASGI, so a disconnect reaches the endpoint untouched. Knows nothing of the endpoints.
Invariant: every response carries x-request-id; an exception becomes a plain 500 in the shape of the
API that was asked if nothing was sent yet, else a cut connection, and is logged once either way.
"""

import re
import secrets
import time

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firefront.core.errors import RequestError
from firefront.gateway.error_shapes import error_response, speaks_anthropic
from firefront.gateway.errors import CLIENT_GONE, INTERNAL, HeadersTooLargeError
from firefront.gateway.state import Gateway

QUIET_ROUTES = frozenset({"/livez", "/readyz", "/health", "/ping", "/load", "/metrics"})
MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 << 10
ALIASES = ("/inference", "/openai")  # /inference/v1/... and /openai/v1/... are /v1/...
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
log = structlog.get_logger("firefront.http")


class Envelope:
    """Wraps the application. `allowed_hosts` None lets every Host header pass."""

    def __init__(
        self, app: ASGIApp, *, gateway: Gateway, allowed_hosts: frozenset[str] | None
    ) -> None:
        self._app = app
        self._gateway = gateway
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        self._gateway.num_exchanges += 1
        status = 0
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
        is_fit = _REQUEST_ID.fullmatch(given)
        request_id = given.decode() if is_fit else f"req_{secrets.token_hex(16)}"
        scope.setdefault("state", {})["request_id"] = request_id
        scope["path"] = real_path(scope["path"])
        names = (b"x-request-id", *((b"request-id",) if speaks_anthropic(scope) else ()))

        async def send_enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent_ms = b"%d" % ((time.monotonic() - started_s) * 1e3)
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name, request_id.encode()) for name in names),
                    (b"openai-processing-ms", spent_ms),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            refused = self._refuse(scope)
            if refused is not None:
                await error_response(scope, refused)(scope, receive, send_enveloped)
            else:
                await self._app(scope, receive, send_enveloped)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            log.exception("request failed", request_id=request_id, path=scope["path"])
            if status:
                raise
            await error_response(scope, INTERNAL)(scope, receive, send_enveloped)
        finally:
            self._gateway.num_exchanges -= 1
            self._record(scope, request_id, status, time.monotonic() - started_s)

    def _refuse(self, scope: Scope) -> RequestError | None:
        headers = scope["headers"]
        size = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
            return HeadersTooLargeError(
                f"at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES >> 10} KiB of them"
            )
        if self._allowed_hosts is not None:
            host = _header(scope, b"host")
            if host_name(host) not in self._allowed_hosts:
                return RequestError(
                    f"Host {host[:100]!r} is not served here; --allowed-host adds one",
                    code="unknown_host",
                )
            # A web page needs no permission to make a browser send us a request, only to read the
            # answer; apps and extensions have origins of other schemes.
            origin = _header(scope, b"origin")
            scheme, _, place = origin.partition("://")
            is_page = origin == "null" or scheme.lower() in ("http", "https")
            if is_page and host_name(place) not in self._allowed_hosts:
                return RequestError(
                    f"Origin {origin[:100]!r} is not served here; --allowed-host adds its name",
                    code="unknown_origin",
                )
        return None

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._gateway.telemetry.http(route, status or CLIENT_GONE, seconds)
        # Probes come every few seconds and say nothing while all is well.
        quiet = status < 400 and route in QUIET_ROUTES
        (log.debug if quiet else log.info)(
            "request",
            request_id=request_id,
            method=scope["method"],
            route=route,
            status=status or CLIENT_GONE,
            ms=round(seconds * 1e3, 1),
        )


def real_path(path: str) -> str:
    """The path that an alias stands for. Routes, logs and metrics know no other."""
    for alias in ALIASES:
        if path.startswith(alias + "/v1/"):
            return path[len(alias) :]
    return path


def _header(scope: Scope, name: bytes) -> str:
    return next((value for key, value in scope["headers"] if key == name), b"").decode("latin1")


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
