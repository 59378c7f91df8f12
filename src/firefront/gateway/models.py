"""/v1/models and /v1/models/{id}: what can be named in a request. Base models come first.

Anthropic's clients, who say which version they speak, get its shape.
"""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from firefront.core.errors import RequestError
from firefront.fleet.replica import Replica
from firefront.gateway.anthropic import models as anthropic_models
from firefront.gateway.error_shapes import speaks_anthropic
from firefront.gateway.state import Gateway

router = APIRouter(tags=["models"])


class NotAllowedError(RequestError):
    """Something that this server never does for a request."""

    status = 403
    code = "permission_denied"


def _describe(gateway: Gateway, replica: Replica, request: Request) -> dict[str, Any]:
    context = None
    if replica.hello is not None:
        hello = replica.hello
        context = min(hello.max_model_len, hello.num_blocks * hello.block_size)
    if speaks_anthropic(request.scope):
        return anthropic_models.model_info(replica.name, gateway.created, context)
    facts = replica.hello.facts if replica.hello is not None else None
    prices = replica.deployment.token_prices
    return {
        "id": replica.name,
        "object": "model",
        "created": gateway.created,
        "owned_by": "firefront",
        "root": replica.name,
        "parent": None,
        "max_model_len": context,
        "num_parameters": facts and facts.num_parameters,
        "weight_bytes": facts and facts.weight_bytes,
        "format": facts and facts.format,
        "has_chat_template": gateway.knows_chat(replica.name),
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        # Dollars for a token, as decimals in text: a float would be 4.9999999999999996e-08.
        "pricing": prices and {"prompt": f"{prices[0]:f}", "completion": f"{prices[1]:f}"},
    }


@router.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> dict[str, Any]:
    """Every name that a request may use."""
    gateway: Gateway = request.app.state.gateway
    data = [_describe(gateway, replica, request) for replica in gateway.router.replicas]
    if speaks_anthropic(request.scope):
        return anthropic_models.page(data, request.query_params)
    return {"object": "list", "data": data}


@router.get("/v1/models/{model_id:path}", summary="Look at one model")
async def get_model(model_id: str, request: Request) -> dict[str, Any]:
    """One model; the id may hold slashes."""
    gateway: Gateway = request.app.state.gateway
    return _describe(gateway, gateway.router.find(model_id), request)


@router.delete("/v1/models/{model_id:path}", summary="Delete a tuned model")
async def delete_model(model_id: str, request: Request) -> dict[str, Any]:
    """There are only base models so far, which stay as long as they are served."""
    gateway: Gateway = request.app.state.gateway
    name = gateway.router.find(model_id).name
    raise NotAllowedError(
        f"model: {name!r} is a base model and cannot be deleted over the API; stop serving it",
        param="model",
    )
