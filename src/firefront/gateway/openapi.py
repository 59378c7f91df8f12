"""The OpenAPI document: bodies are described from the msgspec types that really parse them.

FastAPI never sees the bodies (they are parsed more strictly than it would), so it is told of them;
a type is in the document when a route says that it `accepts` it. Every route may refuse.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.responses import Response

from firefront.gateway.state import version

_REF = "#/components/schemas/{name}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSED = {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}}
_REFUSALS = {
    "4XX": {
        "description": "The request is at fault; `error.param` says where.",
        "content": _REFUSED,
    },
    "503": {"description": "No room or not ready; see Retry-After."},
    "507": {"description": "No room on the disk.", "content": _REFUSED},
}

_bodies: dict[str, type[msgspec.Struct]] = {}  # filled where the routes are declared


def accepts(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes `kind` as its JSON body."""
    assert _bodies.setdefault(kind.__name__, kind) is kind
    schema = {"$ref": _REF.format(name=kind.__name__)}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


def takes(**parameters: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route without a body: its query parameters and their schemas."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in parameters.items()
        ]
    }


def answers(media_types: dict[str, str]) -> dict[str, Any]:
    """What a route's decorator says where its answer is not only JSON: media types and what each
    holds."""
    content = {
        name: {"schema": {"type": "object"} if name == "application/json" else {}}
        for name in media_types
    }
    answer = {"description": "; ".join(media_types.values()), "content": content}
    return {"response_class": Response, "responses": {200: answer}}


STREAMED = answers(
    {
        "application/json": "The answer",
        "text/event-stream": "with `stream` its events as they come",
    }
)


def document(routes: Sequence[APIRoute]) -> dict[str, Any]:
    """The whole document."""
    schema = get_openapi(title="firefront", version=version(), routes=routes)
    _, components = msgspec.json.schema_components(_bodies.values(), ref_template=_REF)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components)
    schemas["Error"] = _ERROR
    for name in ("HTTPValidationError", "ValidationError"):  # ours are worded as all others
        schemas.pop(name, None)
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= _REFUSALS
            if path.startswith("/v1/messages"):
                operation["responses"]["529"] = operation["responses"].pop("503")
    return schema
