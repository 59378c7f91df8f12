"""The OpenAPI document: bodies are described from the msgspec types that really parse them.

FastAPI never sees the bodies (they are parsed more strictly than it would), so it is told of them;
a type is in the document when a route says that it `accepts` it.
"""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_REF = "#/components/schemas/{name}"
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


_bodies: dict[str, type[msgspec.Struct]] = {}  # filled where the routes are declared


def accepts(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes `kind` as its JSON body."""
    assert _bodies.setdefault(kind.__name__, kind) is kind
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}},
        },
        "responses": refusals(),
    }


def takes(**parameters: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route without a body: its query parameters and their schemas."""
    described = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in parameters.items()
    ]
    parts: dict[str, Any] = {"parameters": described} if described else {}
    return {**parts, "responses": refusals()}


def refusals() -> dict[str, Any]:
    """The answers of a route that are errors."""
    return {
        "4XX": {
            "description": "The request is at fault; `error.param` says where.",
            "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
        },
        "503": {"description": "No room or not ready; see Retry-After."},
        "507": {"description": "No room on the disk."},
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, built once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, components = msgspec.json.schema_components(_bodies.values(), ref_template=_REF)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(components)
        schemas["Error"] = _ERROR
        app.openapi_schema = schema
    return app.openapi_schema
