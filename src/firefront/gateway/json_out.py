"""JSON out, in one place: compact UTF-8; a NaN or infinity becomes null (JSON has neither)."""

from typing import Any

import msgspec
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


def dumps(value: Any) -> bytes:
    return _encoder.encode(value)


def json_response(value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), headers=headers, media_type="application/json")
