"""vLLM's routes to load and unload adapters while the server runs.

A path names a folder of this machine, so they are its owner's alone. What is loaded is copied and
is there again at the next start; what is unloaded is gone.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import NotFoundError, RequestError
from firefront.gateway.auth import account_of, check_owner
from firefront.gateway.endpoint import Exchange
from firefront.gateway.fields import doc
from firefront.gateway.openapi import accepts, answers

MAX_PATH_CHARS = 4096
router = APIRouter(tags=["adapters"])
_SAID = answers({"text/plain": "What was done"})


class LoadAdapterRequest(msgspec.Struct, kw_only=True):
    """A folder that becomes an adapter."""

    lora_name: Annotated[str, doc("what it is to be called: NAME, or BASE:NAME")]
    lora_path: Annotated[
        str, doc("a folder of the server's machine with PEFT's files, or a .gguf file")
    ]
    load_inplace: Annotated[bool | None, doc("replace the adapter of this name")] = None
    is_3d_lora_weight: Annotated[bool | None, doc("LoRA of experts; refused")] = None
    base_model_name: Annotated[str | None, doc("its base; needed where several serve")] = None
    is_pinned: Annotated[bool | None, doc("once in memory it stays there")] = None


class UnloadAdapterRequest(msgspec.Struct, kw_only=True):
    """An adapter that is to go."""

    lora_name: Annotated[str, doc("NAME, or BASE:NAME")]
    lora_int_id: Annotated[int | None, doc("accepted: names are enough here")] = None


@router.post(
    "/v1/load_lora_adapter",
    summary="Load an adapter",
    openapi_extra=accepts(LoadAdapterRequest),
    **_SAID,
)
async def load_lora_adapter(request: Request) -> Response:
    """Copies and checks the adapter and serves it as BASE:NAME. Only for the machine's owner."""
    exchange = Exchange(request)
    parsed = await exchange.parse(LoadAdapterRequest)
    gateway = exchange.gateway
    check_owner(is_private=gateway.settings.is_private)
    if not parsed.lora_name or not parsed.lora_path:
        raise RequestError("Both 'lora_name' and 'lora_path' must be provided.")
    if parsed.is_3d_lora_weight:
        where = "is_3d_lora_weight"
        raise RequestError(f"{where}: LoRA of experts cannot be served", param=where)
    base, name = gateway.adapters.place(parsed.lora_name, parsed.base_model_name, "lora_name")
    if gateway.pipelines.find(account_of(request), f"{base.name}:{name}") is not None:
        raise RequestError(f"lora_name: {base.name}:{name} is a pipeline", param="lora_name")
    await gateway.adapters.add(
        account_of(request),
        _folder(parsed.lora_path),
        name=name,
        base=base,
        replaces=bool(parsed.load_inplace),
        is_pinned=bool(parsed.is_pinned),
    )
    return _said(exchange, f"Success: LoRA adapter '{parsed.lora_name}' added successfully.")


@router.post(
    "/v1/unload_lora_adapter",
    summary="Unload an adapter",
    openapi_extra=accepts(UnloadAdapterRequest),
    **_SAID,
)
async def unload_lora_adapter(request: Request) -> Response:
    """Requests that run on it go on to their end. Only for the machine's owner."""
    exchange = Exchange(request)
    parsed = await exchange.parse(UnloadAdapterRequest)
    gateway = exchange.gateway
    check_owner(is_private=gateway.settings.is_private)
    if not parsed.lora_name:
        raise RequestError(
            "'lora_name' needs to be provided to unload a LoRA adapter.", param="lora_name"
        )
    found = gateway.adapters.find(account_of(request), parsed.lora_name)
    if found is None:
        raise NotFoundError(
            f"The lora adapter '{parsed.lora_name[:200]}' cannot be found.", param="lora_name"
        )
    gateway.pipelines.check_unused(account_of(request), found[1].model)
    await gateway.adapters.remove(found[1], keeps_row=True)
    return _said(exchange, f"Success: LoRA adapter '{parsed.lora_name}' removed successfully.")


def _folder(path: str) -> Path:
    if len(path) > MAX_PATH_CHARS or "\0" in path:
        raise RequestError(
            f"lora_path: must be a path of up to {MAX_PATH_CHARS} characters", param="lora_path"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError:  # `~name` of nobody
        raise RequestError("lora_path: no such user", param="lora_path") from None


def _said(exchange: Exchange, text: str) -> Response:
    return Response(text, headers=exchange.headers, media_type="text/plain")
