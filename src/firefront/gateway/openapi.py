"""The OpenAPI document: bodies are described from the msgspec types that really parse them.

FastAPI never sees the bodies (they are parsed more strictly than it would), so it is told of them.
"""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from firefront.gateway.anthropic.body import CountTokensRequest, MessagesRequest
from firefront.gateway.chat_body import ChatRequest
from firefront.gateway.completion_body import CompletionRequest
from firefront.gateway.token_body import DetokenizeRequest, TemplateRequest, TokenizeRequest

BODIES = (
    ChatRequest, CompletionRequest, MessagesRequest, CountTokensRequest,
    TokenizeRequest, DetokenizeRequest, TemplateRequest,
)  # fmt: skip
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


def accepts(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes `kind` as its JSON body."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}},
        },
        "responses": {
            "4XX": {
                "description": "The request is at fault; `error.param` says where.",
                "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
            },
            "503": {"description": "No room or not ready; see Retry-After."},
        },
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, built once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, components = msgspec.json.schema_components(BODIES, ref_template=_REF)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(components)
        schemas["Error"] = _ERROR
        app.openapi_schema = schema
    return app.openapi_schema
