"""Errors as Anthropic shapes them: {"type": "error", "error": {"type", "message"}, "request_id"}.

Owns the mapping from our errors to Anthropic's types and statuses, for plain responses and for
frames in a stream. Knows nothing of endpoints.
"""

from collections.abc import Callable

from starlette.responses import Response

from firefront.core.errors import FirefrontError
from firefront.gateway.errors import error_headers
from firefront.gateway.json_out import dumps

OVERLOADED = 529  # where everyone else says 503
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}


def error_status(error: FirefrontError) -> int:
    """The HTTP status that Anthropic's clients know this error by."""
    return OVERLOADED if error.status == 503 else error.status


def error_body(error: FirefrontError, request_id: str) -> bytes:
    """The body of an error response, and what follows `data:` in a stream."""
    status = error_status(error)
    other = "invalid_request_error" if 400 <= status < 500 else "api_error"
    return dumps(
        {
            "type": "error",
            "error": {"type": _TYPES.get(status, other), "message": error.message},
            "request_id": request_id,
        }
    )


def error_response(error: FirefrontError, request_id: str) -> Response:
    return Response(
        error_body(error, request_id),
        status_code=error_status(error),
        headers=error_headers(error),
        media_type="application/json",
    )


def error_frames(request_id: str) -> Callable[[FirefrontError], bytes]:
    """What ends the stream of this request when it fails half-way."""

    def frame(error: FirefrontError) -> bytes:
        return b"event: error\ndata: " + error_body(error, request_id) + b"\n\n"

    return frame
