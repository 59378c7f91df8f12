"""POST /v1/chat/completions: OpenAI's chat, whole and streamed."""

import time
import uuid

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.messages import Delta
from firefront.gateway.endpoint import Exchange
from firefront.gateway.logprob_shapes import chat_entry
from firefront.gateway.openapi import accepts
from firefront.gateway.schemas import ChatRequest
from firefront.gateway.shapes import Choice, Json
from firefront.gateway.state import ServedModel

router = APIRouter(tags=["generate"])


class ChatShape:
    """The words of chat completions."""

    def __init__(self, model: ServedModel, *, with_logprobs: bool) -> None:
        self._model = model
        self._with_logprobs = with_logprobs
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())

    def envelope(self, *, chunk: bool) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk" if chunk else "chat.completion",
            "created": self._created,
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
        }

    def whole(self, choice: Choice) -> Json:
        content = [chat_entry(position) for position in choice.logprobs]
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": "".join(choice.texts), "refusal": None},
            "logprobs": {"content": content, "refusal": None} if self._with_logprobs else None,
            "finish_reason": choice.finish,
            "stop_reason": choice.stop_reason,
        }

    def opening(self, index: int) -> Json | None:
        return self._part(index, {"role": "assistant", "content": ""})

    def growth(self, index: int, delta: Delta) -> Json | None:
        if not delta.text and not delta.logprobs:
            return None
        part = self._part(index, {"content": delta.text})
        if self._with_logprobs and delta.logprobs:
            content = [chat_entry(position) for position in delta.logprobs]
            part["logprobs"] = {"content": content, "refusal": None}
        return part

    def closing(self, index: int, delta: Delta) -> Json | None:
        part = self._part(index, {})
        part["finish_reason"] = delta.finish
        part["stop_reason"] = delta.stop_reason
        return part

    def _part(self, index: int, delta: Json) -> Json:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


@router.post(
    "/v1/chat/completions",
    summary="Continue a conversation",
    openapi_extra=accepts(ChatRequest),
)
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions. With `stream` the answer is server-sent events."""
    exchange = Exchange(request)
    parsed = await exchange.parse(ChatRequest)
    model = exchange.gateway.served(parsed.model)
    prompt = await model.renderer.chat(parsed, model.max_len)
    generation = exchange.generation(model, [prompt], parsed)
    shape = ChatShape(model, with_logprobs=prompt.sampling.logprobs is not None)
    return await exchange.answer(generation, shape, parsed)
