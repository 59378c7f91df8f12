"""Text to tokens and back over HTTP, in the words of vLLM's clients and of llama.cpp's.

vLLM sends `prompt` or `messages` and reads `tokens`, `count`, `max_model_len`; llama.cpp sends
`content` and reads `tokens`. One answer serves both. Special tokens spelled out in a text count as
such here, unlike in a prompt of /v1/completions: whoever asks may write them.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.json_out import dumps
from firefront.gateway.leaving import unless_gone
from firefront.gateway.openapi import accepts, takes
from firefront.gateway.render import Renderer
from firefront.gateway.state import Gateway, ServedModel
from firefront.gateway.token_body import (
    DetokenizeRequest,
    TemplateRequest,
    TokenizeRequest,
    conversation_task,
)

router = APIRouter(tags=["tokens"])
MAX_CHARS = 1 << 20  # of a text: far more than a context holds


def _framed(request: TokenizeRequest) -> bool:
    """Whether the text is framed as the model frames texts."""
    if request.content is not None:
        return bool(request.add_special)
    return request.add_special_tokens is not False


async def _tokens(request: TokenizeRequest, model: ServedModel) -> list[int]:
    given = [n for n in ("prompt", "content", "messages") if getattr(request, n) is not None]
    if len(given) != 1:
        raise RequestError(
            f"{given[1] if given else 'prompt'}: send one of prompt, content and messages",
            param=given[1] if given else "prompt",
        )
    [name] = given
    if name == "messages":
        if request.add_special_tokens:
            where = "add_special_tokens"
            raise RequestError(f"{where}: the chat template adds them to messages", param=where)
        return await model.renderer.chat_tokens(conversation_task(request), model.max_len)
    text = getattr(request, name)
    if len(text) > MAX_CHARS:
        raise RequestError(f"{name}: at most {MAX_CHARS} characters", param=name)
    return await model.renderer.plain_tokens(
        text, add_special=_framed(request), parse_special=request.parse_special is not False
    )


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


def _with_pieces(renderer: Renderer, token_ids: Sequence[int]) -> list[dict[str, Any]]:
    token_bytes = renderer.tokenizer.token_bytes
    return [{"id": token, "piece": _piece(token_bytes(token))} for token in token_ids]


def _texts(renderer: Renderer, token_ids: Sequence[int]) -> list[str]:
    token_bytes = renderer.tokenizer.token_bytes
    return [token_bytes(token).decode("utf-8", "replace") for token in token_ids]


def _answer(exchange: Exchange, answer: dict[str, Any]) -> Response:
    return Response(dumps(answer), headers=exchange.headers, media_type="application/json")


@router.post("/v1/tokenize", include_in_schema=False)
@router.post("/tokenize", summary="Text to tokens", openapi_extra=accepts(TokenizeRequest))
async def tokenize(request: Request) -> Response:
    """The tokens of a text or a conversation."""
    exchange = Exchange(request)
    parsed = await exchange.parse(TokenizeRequest)
    model = exchange.gateway.served(parsed.model, account_of(request))
    token_ids = await unless_gone(request, _tokens(parsed, model))

    def answer() -> dict[str, Any]:
        return {
            "count": len(token_ids),
            "max_model_len": model.max_len,
            "tokens": _with_pieces(model.renderer, token_ids) if parsed.with_pieces else token_ids,
            "token_strs": _texts(model.renderer, token_ids) if parsed.return_token_strs else None,
        }

    return _answer(exchange, await asyncio.to_thread(answer))


@router.post("/v1/detokenize", include_in_schema=False)
@router.post("/detokenize", summary="Tokens to text", openapi_extra=accepts(DetokenizeRequest))
async def detokenize(request: Request) -> Response:
    """The text of tokens, special ones included; as `prompt` and as `content`."""
    exchange = Exchange(request)
    parsed = await exchange.parse(DetokenizeRequest)
    model = exchange.gateway.served(parsed.model, account_of(request))
    tokenizer = model.renderer.tokenizer
    if len(parsed.tokens) > MAX_CHARS:
        raise RequestError(f"tokens: at most {MAX_CHARS}", param="tokens")
    if any(not 0 <= token < tokenizer.vocab_size for token in parsed.tokens):
        raise RequestError(f"tokens: ids must be 0 to {tokenizer.vocab_size - 1}", param="tokens")
    text = await asyncio.to_thread(tokenizer.decode, parsed.tokens, skip_special=False)
    return _answer(exchange, {"prompt": text, "content": text})


@router.post(
    "/apply-template",
    summary="A conversation as the model reads it",
    openapi_extra=accepts(TemplateRequest),
)
async def apply_template(request: Request) -> Response:
    """The text that the model's own chat template makes of a conversation, as `prompt`."""
    exchange = Exchange(request)
    parsed = await exchange.parse(TemplateRequest)
    model = exchange.gateway.served(parsed.model, account_of(request))
    task = conversation_task(parsed)
    text = await unless_gone(request, model.renderer.chat_text(task, model.max_len))
    return _answer(exchange, {"prompt": text})


@router.get(
    "/tokenizer_info",
    summary="The tokenizer's settings",
    openapi_extra=takes(model={"type": "string"}),
)
async def tokenizer_info(request: Request) -> dict[str, Any]:
    """As in tokenizer_config.json: special tokens, and the chat template."""
    gateway: Gateway = request.app.state.gateway
    served = gateway.served(request.query_params.get("model"), account_of(request))
    return {**served.renderer.tokenizer.info(), "model_max_length": served.max_len}
