"""POST /v1/messages, whole and streamed, and POST /v1/messages/count_tokens."""

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.gateway.anthropic.answer import Answer, Json, MessageShape
from firefront.gateway.anthropic.body import (
    CountTokensRequest,
    MessagesRequest,
    client_names,
    conversation_task,
    messages_task,
)
from firefront.gateway.anthropic.errors import error_frames
from firefront.gateway.anthropic.events import PING, stream
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.json_out import dumps
from firefront.gateway.leaving import unless_gone
from firefront.gateway.openapi import STREAMED, accepts
from firefront.gateway.task import Service

router = APIRouter(tags=["anthropic"])


@router.post(
    "/v1/messages",
    summary="Continue a conversation",
    openapi_extra=accepts(MessagesRequest),
    **STREAMED,
)
async def messages(request: Request) -> Response:
    """Anthropic's messages. With `stream` the answer is server-sent events."""
    exchange = Exchange(request)
    parsed = await exchange.parse(MessagesRequest)
    task = messages_task(parsed)
    model = exchange.gateway.served(parsed.model, account_of(request))
    with client_names():
        prompt = await model.renderer.chat(task, model.max_len)
        generation = await exchange.generation(
            model, [prompt], Service(), streamed=bool(parsed.stream)
        )
    shape = MessageShape(f"msg_{secrets.token_hex(16)}", generation, parsed.max_tokens)
    hides = parsed.thinking is not None and parsed.thinking.display == "omitted"

    def new_answer() -> Answer:
        return Answer(hides_thoughts=hides)

    if parsed.stream:
        return exchange.events(
            stream(generation, shape, new_answer),
            close=generation.close,
            on_error=error_frames(request.scope["state"]["request_id"]),
            keep_alive=PING,
        )

    async def whole() -> Json:
        answer = new_answer()
        async for grown in generation.growths():
            for item in grown:
                if isinstance(item, int):
                    answer = new_answer()  # it begins anew
                else:
                    answer.grow(item)
        return shape.message(answer)

    return await exchange.whole(generation, whole())


@router.post(
    "/v1/messages/count_tokens",
    summary="Count the tokens of a conversation",
    openapi_extra=accepts(CountTokensRequest),
)
async def count_tokens(request: Request) -> Response:
    """How many tokens its prompt has. Nothing is generated."""
    exchange = Exchange(request)
    parsed = await exchange.parse(CountTokensRequest)
    task = conversation_task(parsed)
    model = exchange.gateway.served(parsed.model, account_of(request))
    with client_names():
        token_ids = await unless_gone(request, model.renderer.chat_tokens(task, model.max_len))
    content = dumps({"input_tokens": len(token_ids)})
    return Response(content, headers=exchange.headers, media_type="application/json")
