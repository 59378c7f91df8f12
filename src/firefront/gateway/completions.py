"""POST /v1/completions: text in, text on, with the legacy logprobs and echo."""

import time
import uuid

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.messages import Delta, Logprob
from firefront.gateway.endpoint import Exchange
from firefront.gateway.generate import Generation
from firefront.gateway.logprob_shapes import LegacyLogprobs
from firefront.gateway.openapi import accepts
from firefront.gateway.schemas import CompletionRequest
from firefront.gateway.shapes import Choice, Json
from firefront.gateway.state import ServedModel

router = APIRouter(tags=["generate"])


class CompletionShape:
    """The words of completions. With `echo` a choice begins with its prompt."""

    def __init__(self, model: ServedModel, generation: Generation, *, echo: bool) -> None:
        self._model = model
        self._generation = generation
        self._echo = echo
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._legacy: dict[int, LegacyLogprobs] = {}
        self._echoed: set[int] = set()
        self._prompt_positions: dict[int, list[Logprob]] = {}

    def envelope(self, *, chunk: bool) -> Json:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
        }

    def whole(self, choice: Choice) -> Json:
        text = "".join(choice.texts)
        if self._echo:
            text = self._prompt_text(choice.index) + text
        positions = [*choice.prompt_logprobs, *choice.logprobs]
        return {
            "index": choice.index,
            "text": text,
            "logprobs": self._logprobs(choice.index, positions),
            "finish_reason": choice.finish,
            "stop_reason": choice.stop_reason,
        }

    def opening(self, index: int) -> Json | None:
        return None

    def growth(self, index: int, delta: Delta) -> Json | None:
        text, positions = delta.text, list(delta.logprobs or ())
        if self._echo and index not in self._echoed:
            # The prompt is echoed in one piece, when all of it has been scored.
            held = self._prompt_positions.setdefault(index, [])
            held += delta.prompt_logprobs or ()
            if not delta.token_ids and not text and delta.finish is None:
                return None
            self._echoed.add(index)
            text, positions = self._prompt_text(index) + text, held + positions
        if not text and not positions and delta.finish is None:
            return None
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, positions) if positions else None,
            "finish_reason": delta.finish,
            "stop_reason": delta.stop_reason,
        }

    def closing(self, index: int, delta: Delta) -> Json | None:
        return None

    def _prompt_text(self, index: int) -> str:
        prompt = self._generation.prompt_of(index)
        if prompt.text is not None:
            return prompt.text
        return self._model.renderer.tokenizer.decode(prompt.token_ids, skip_special=False)

    def _logprobs(self, index: int, positions: list[Logprob]) -> Json | None:
        num_top = self._generation.prompt_of(index).sampling.logprobs
        if num_top is None:
            return None
        legacy = self._legacy.get(index)
        if legacy is None:
            legacy = self._legacy[index] = LegacyLogprobs(num_top)
        return legacy.chunk(positions)


@router.post(
    "/v1/completions",
    summary="Continue a text",
    openapi_extra=accepts(CompletionRequest),
)
async def completions(request: Request) -> Response:
    """OpenAI's completions. `echo` with `logprobs` scores the prompt."""
    exchange = Exchange(request)
    parsed = await exchange.parse(CompletionRequest)
    model = exchange.gateway.served(parsed.model)
    prompts = await model.renderer.completion(parsed, model.max_len)
    generation = exchange.generation(model, prompts, parsed)
    shape = CompletionShape(model, generation, echo=bool(parsed.echo))
    return await exchange.answer(generation, shape, parsed)
