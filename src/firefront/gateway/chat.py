"""POST /v1/chat/completions: OpenAI's chat, whole and streamed."""

import secrets
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.gateway.auth import account_of
from firefront.gateway.chat_body import ChatRequest, chat_task
from firefront.gateway.endpoint import Exchange
from firefront.gateway.generate import Generation, Growth
from firefront.gateway.logprob_shapes import chat_entry
from firefront.gateway.openapi import STREAMED, accepts
from firefront.gateway.perf import perf_metrics
from firefront.gateway.shapes import Call, Choice, Json
from firefront.gateway.state import ServedModel
from firefront.gateway.stored_completions import keeper
from firefront.text.answer import CallArguments, CallOpened, Content, Reasoning

router = APIRouter(tags=["generate"])


class ChatShape:
    """The words of chat completions."""

    def __init__(self, model: ServedModel, generation: Generation, request: ChatRequest) -> None:
        self._model = model
        self._generation = generation
        self._with_logprobs = generation.prompts[0].sampling.logprobs is not None
        self._with_ids = bool(request.return_token_ids)
        self._with_perf = bool(request.perf_metrics_in_response)
        self._is_legacy = bool(request.functions)
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self.created = int(time.time())

    def envelope(self, *, chunk: bool) -> Json:
        return {
            "id": self.id,
            "object": "chat.completion.chunk" if chunk else "chat.completion",
            "created": self.created,
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
        }

    def answer(self, choices: list[Choice]) -> Json:
        """The whole answer."""
        answer = {
            **self.envelope(chunk=False),
            "choices": [self._whole(choice) for choice in choices],
            "usage": self._generation.usage(),
        }
        if self._with_ids:
            answer["prompt_token_ids"] = self._generation.prompts[0].token_ids
        if self._with_perf:
            answer["perf_metrics"] = perf_metrics(self._generation)
        return answer

    def _whole(self, choice: Choice) -> Json:
        text, thought = "".join(choice.texts), "".join(choice.reasoning)
        message: Json = {
            "role": "assistant",
            "content": None if choice.calls and not text else text,
            "refusal": None,
        }
        if thought:
            message["reasoning_content"] = message["reasoning"] = thought
        if choice.calls:
            message |= self._whole_calls(choice.calls)
        content = [chat_entry(position) for position in choice.logprobs]
        whole: Json = {
            "index": choice.index,
            "message": message,
            "logprobs": {"content": content, "refusal": None} if self._with_logprobs else None,
            "finish_reason": self._finish(choice.finish),
            "stop_reason": choice.stop_reason,
        }
        if self._with_ids:
            whole["token_ids"] = choice.token_ids
        return whole

    def _whole_calls(self, calls: list[Call]) -> Json:
        functions = [{"name": c.name, "arguments": "".join(c.arguments)} for c in calls]
        if self._is_legacy:
            return {"function_call": functions[0]}
        return {
            "tool_calls": [
                {"id": call.id, "type": "function", "function": function}
                for call, function in zip(calls, functions, strict=True)
            ]
        }

    def _finish(self, finish: str | None) -> str | None:
        return "function_call" if finish == "tool_calls" and self._is_legacy else finish

    def opening(self, index: int) -> Json | None:
        return self._part(index, {"role": "assistant", "content": ""})

    def growth(self, growth: Growth) -> list[Json]:
        index, delta = growth.index, growth.delta
        parts = [self._part(index, words) for words in self._words(growth)]
        if not parts and (delta.logprobs or (self._with_ids and delta.token_ids)):
            parts.append(self._part(index, {"content": ""}))
        if parts and self._with_logprobs and delta.logprobs:
            content = [chat_entry(position) for position in delta.logprobs]
            parts[0]["logprobs"] = {"content": content, "refusal": None}
        if parts and self._with_ids:
            parts[0]["token_ids"] = delta.token_ids
        if growth.finish is not None:
            part = self._part(index, {})
            part["finish_reason"] = self._finish(growth.finish)
            part["stop_reason"] = delta.stop_reason
            parts.append(part)
        return parts

    def last_fields(self) -> Json:
        """What the chunk that ends a choice says beside its choice."""
        return {"perf_metrics": perf_metrics(self._generation)} if self._with_perf else {}

    def _words(self, growth: Growth) -> list[Json]:
        """The deltas' content, one for each event."""
        words: list[Json] = []
        for event in growth.events:
            match event:
                case Content():
                    words.append({"content": event.text})
                case Reasoning():
                    words.append({"reasoning_content": event.text, "reasoning": event.text})
                case CallOpened() if self._is_legacy:
                    words.append({"function_call": {"name": event.name, "arguments": ""}})
                case CallOpened():
                    function = {"name": event.name, "arguments": ""}
                    call = {"index": event.index, "id": event.id, "type": "function"}
                    words.append({"tool_calls": [{**call, "function": function}]})
                case CallArguments() if self._is_legacy:
                    words.append({"function_call": {"arguments": event.text}})
                case CallArguments():
                    call = {"index": event.index, "function": {"arguments": event.text}}
                    words.append({"tool_calls": [call]})
        return words

    def _part(self, index: int, delta: Json) -> Json:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


@router.post(
    "/v1/chat/completions",
    summary="Continue a conversation",
    openapi_extra=accepts(ChatRequest),
    **STREAMED,
)
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions. With `stream` the answer is server-sent events."""
    exchange = Exchange(request)
    parsed = await exchange.parse(ChatRequest)
    service, task = parsed.service(), chat_task(parsed)
    keep = keeper(exchange, service, parsed.metadata) if parsed.store else None
    model = exchange.gateway.served(parsed.model, account_of(request))
    prompt = await model.renderer.chat(task, model.max_len)
    generation = await exchange.generation(model, [prompt], service, streamed=bool(parsed.stream))
    shape = ChatShape(model, generation, parsed)
    return await exchange.answer(generation, shape, parsed, keep)
