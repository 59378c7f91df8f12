"""GET /v1/models and /v1/models/{id}: what can be named in a request. Base models come first."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from firefront.fleet.replica import Replica
from firefront.gateway.state import Gateway

router = APIRouter(tags=["models"])


def _describe(gateway: Gateway, replica: Replica) -> dict[str, Any]:
    context = None
    if replica.hello is not None:
        hello = replica.hello
        context = min(hello.max_model_len, hello.num_blocks * hello.block_size)
    return {
        "id": replica.name,
        "object": "model",
        "created": gateway.created,
        "owned_by": "firefront",
        "root": replica.name,
        "parent": None,
        "max_model_len": context,
    }


@router.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> dict[str, Any]:
    """Every name that a request may use."""
    gateway: Gateway = request.app.state.gateway
    data = [_describe(gateway, replica) for replica in gateway.router.replicas]
    return {"object": "list", "data": data}


@router.get("/v1/models/{model_id:path}", summary="Look at one model")
async def get_model(model_id: str, request: Request) -> dict[str, Any]:
    """One model; the id may hold slashes."""
    gateway: Gateway = request.app.state.gateway
    return _describe(gateway, gateway.router.find(model_id))
