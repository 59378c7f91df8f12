"""/v1/models and /v1/models/{id}: what can be named in a request. Base models come first.

Anthropic's clients, who say which version they speak, get its shape.
"""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from firefront.core.errors import RequestError
from firefront.fleet.replica import Replica
from firefront.gateway.adapters import ServedAdapter
from firefront.gateway.anthropic import models as anthropic_models
from firefront.gateway.auth import NotAllowedError, account_of
from firefront.gateway.error_shapes import speaks_anthropic
from firefront.gateway.pipelines.registry import Route
from firefront.gateway.state import Gateway

router = APIRouter(tags=["models"])


def _describe(
    gateway: Gateway,
    replica: Replica,
    adapter: ServedAdapter | None,
    request: Request,
    route: Route | None = None,
) -> dict[str, Any]:
    context = None
    if replica.hello is not None:
        hello = replica.hello
        context = min(hello.max_model_len, hello.num_blocks * hello.block_size)
    name = replica.name if adapter is None else adapter.model
    created = gateway.created if adapter is None else adapter.row.created_at
    if route is not None:
        name, created = route.model, route.row.created_at
    if speaks_anthropic(request.scope):
        return anthropic_models.model_info(name, created, context)
    # Those of an adapter's base are on its own card.
    facts = replica.hello.facts if replica.hello is not None and adapter is None else None
    prices = replica.deployment.token_prices
    has_template = adapter is not None and adapter.renderer is not None
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "firefront",
        "root": replica.name if adapter is None else f"adapters/{adapter.row.sha256}",
        "parent": None if name == replica.name else replica.name,
        "max_model_len": context,
        "num_parameters": facts and facts.num_parameters,
        "weight_bytes": facts and facts.weight_bytes,
        "format": facts and facts.format,
        "has_chat_template": has_template or gateway.knows_chat(replica.name),
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        # Dollars for a token, as decimals in text: a float would be 4.9999999999999996e-08.
        "pricing": prices and {"prompt": f"{prices[0]:f}", "completion": f"{prices[1]:f}"},
        "adapter": adapter and _adapter_facts(adapter),
        "pipeline": route and {"id": route.row.id, "version": route.versions.current},
    }


def _adapter_facts(adapter: ServedAdapter) -> dict[str, Any]:
    row = adapter.row
    return {
        "id": row.id,
        "name": row.name,
        "rank": row.rank,
        "targets": row.targets,
        "sha256": row.sha256,
        "is_pinned": row.is_pinned,
        "job_id": row.job_id,
    }


@router.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> dict[str, Any]:
    """Every name that a request may use: base models, then their adapters."""
    gateway: Gateway = request.app.state.gateway
    found = [(replica, None) for replica in gateway.router.replicas]
    adapters = gateway.adapters.all(account_of(request))
    tuned = [(gateway.router.find(adapter.row.base), adapter) for adapter in adapters]
    data = [_describe(gateway, *one, request) for one in [*found, *tuned]]
    data += [_of_pipeline(gateway, route, request) for route in _routes(gateway, request)]
    if speaks_anthropic(request.scope):
        return anthropic_models.page(data, request.query_params)
    return {"object": "list", "data": data}


def _routes(gateway: Gateway, request: Request) -> list[Route]:
    return gateway.pipelines.all(account_of(request))


def _of_pipeline(gateway: Gateway, route: Route, request: Request) -> dict[str, Any]:
    """The card of a pipeline's model: that of the version which serves, under its own name."""
    serving = route.versions.serving
    model = route.row.base if serving is None else serving.model
    _, replica, adapter = gateway.resolve(model, account_of(request))
    return _describe(gateway, replica, adapter, request, route)


@router.get("/v1/models/{model_id:path}", summary="Look at one model")
async def get_model(model_id: str, request: Request) -> dict[str, Any]:
    """One model; the id may hold slashes. An adapter is BASE:NAME, or NAME where it is clear."""
    gateway: Gateway = request.app.state.gateway
    if (route := gateway.pipelines.find(account_of(request), model_id)) is not None:
        return _of_pipeline(gateway, route, request)
    _, replica, adapter = gateway.resolve(model_id, account_of(request))
    return _describe(gateway, replica, adapter, request)


@router.delete("/v1/models/{model_id:path}", summary="Delete an adapter")
async def delete_model(model_id: str, request: Request) -> dict[str, Any]:
    """Requests that run on it go on to their end. A base model stays as long as it is served."""
    gateway: Gateway = request.app.state.gateway
    if (route := gateway.pipelines.find(account_of(request), model_id)) is not None:
        raise RequestError(
            f"model: {route.model} is a pipeline; delete /v1/firefront/pipelines/{route.row.id}",
            param="model",
        )
    _, replica, adapter = gateway.resolve(model_id, account_of(request))
    if adapter is None:
        raise NotAllowedError(
            f"model: {replica.name!r} is a base model and cannot be deleted over the API; stop "
            "serving it",
            param="model",
        )
    gateway.pipelines.check_unused(account_of(request), adapter.model)
    await gateway.adapters.remove(adapter)
    return {"id": adapter.model, "object": "model", "deleted": True}
