"""Errors as OpenAI shapes them: {"error": {"message", "type", "param", "code"}} on every non-2xx.

Owns the mapping from exceptions to status, body and headers, for plain responses and for frames in
a stream. Invariant: nothing of a prompt and nothing of a traceback is in a body.
"""

import math
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import (
    FirefrontError,
    OverloadedError,
    ReplicaError,
    RequestError,
    StorageFullError,
)
from firefront.gateway.json_out import dumps

CLIENT_GONE = 499  # logged only, never sent


class BodyTooLargeError(RequestError):
    status = 413
    code = "request_too_large"


class UnsupportedBodyError(RequestError):
    status = 415
    code = "unsupported_content_encoding"


class BodyTimeoutError(RequestError):
    status = 408
    code = "request_timeout"


class HeadersTooLargeError(RequestError):
    status = 431
    code = "headers_too_large"


INTERNAL = FirefrontError("internal error; the server's log has it under this request id")


def error_object(error: FirefrontError) -> dict[str, Any]:
    """The body of an error response and of an error frame."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_headers(error: FirefrontError) -> dict[str, str]:
    """What tells a client whether and when to try again."""
    if isinstance(error, OverloadedError):
        return {
            "retry-after": str(max(1, math.ceil(error.retry_after_s))),
            "retry-after-ms": str(int(error.retry_after_s * 1000)),
        }
    if isinstance(error, ReplicaError | StorageFullError):
        return {"x-should-retry": "false"}
    if error.status in (408, 413, 431):
        return {"connection": "close", "x-should-retry": "false"}
    return {}


def error_response(error: FirefrontError) -> Response:
    return Response(
        dumps(error_object(error)),
        status_code=error.status,
        headers=error_headers(error),
        media_type="application/json",
    )


def http_error(request: Request, status: int) -> FirefrontError:
    """What the framework itself refuses: unknown paths, wrong methods."""
    where = f"{request.method} {request.scope['path'][:200]}"
    if status == 404:
        message, code = f"unknown URL ({where}); /docs lists what there is", "unknown_url"
    elif status == 405:
        message, code = f"method not allowed ({where})", "method_not_allowed"
    else:
        message, code = HTTPStatus(status).phrase, None
    error = RequestError(message, code=code)
    error.status = status
    return error
