"""POST /v1/completions: text in, text on, with the legacy logprobs and echo."""

import secrets
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.messages import Logprob
from firefront.gateway.auth import account_of
from firefront.gateway.completion_body import CompletionRequest
from firefront.gateway.endpoint import Exchange
from firefront.gateway.generate import Generation, Growth
from firefront.gateway.logprob_shapes import LegacyLogprobs
from firefront.gateway.openapi import STREAMED, accepts
from firefront.gateway.perf import perf_metrics
from firefront.gateway.shapes import Choice, Json
from firefront.gateway.state import ServedModel
from firefront.text.answer import Content

router = APIRouter(tags=["generate"])


class CompletionShape:
    """The words of completions. With `echo` a choice begins with its prompt."""

    def __init__(
        self, model: ServedModel, generation: Generation, request: CompletionRequest
    ) -> None:
        self._model = model
        self._generation = generation
        self._echo = bool(request.echo)
        self._num_kept = request.n or 1  # of each prompt's choices, the likeliest
        self._num_top = request.logprobs
        self._with_ids = bool(request.return_token_ids)
        self._with_perf = bool(request.perf_metrics_in_response)
        self._id = f"cmpl-{secrets.token_hex(16)}"
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

    def answer(self, choices: list[Choice]) -> Json:
        """The whole answer: of each prompt's choices the likeliest, where more were generated."""
        per_prompt = self._generation.n
        kept: list[Choice] = []
        for start in range(0, len(choices), per_prompt):
            group = choices[start : start + per_prompt]
            if self._num_kept < per_prompt:
                group = sorted(group, key=_mean_logprob, reverse=True)[: self._num_kept]
            kept += group
        answer = {
            **self.envelope(chunk=False),
            "choices": [self._whole(i, choice) for i, choice in enumerate(kept)],
            "usage": self._generation.usage(),
        }
        if self._with_perf:
            answer["perf_metrics"] = perf_metrics(self._generation)
        return answer

    def _whole(self, index: int, choice: Choice) -> Json:
        text = "".join(choice.texts)
        if self._echo:
            text = self._prompt_text(choice.index) + text
        positions = [*choice.prompt_logprobs, *choice.logprobs]
        whole: Json = {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(choice.index, positions),
            "finish_reason": choice.finish,
            "stop_reason": choice.stop_reason,
        }
        if self._with_ids:
            whole["token_ids"] = choice.token_ids
            whole["prompt_token_ids"] = self._generation.prompt_of(choice.index).token_ids
        return whole

    def opening(self, index: int) -> Json | None:
        return None

    def growth(self, growth: Growth) -> list[Json]:
        index, delta = growth.index, growth.delta
        text = "".join(event.text for event in growth.events if isinstance(event, Content))
        positions = list(delta.logprobs or ())
        if self._echo and index not in self._echoed:
            # The prompt is echoed in one piece, when all of it has been scored.
            held = self._prompt_positions.setdefault(index, [])
            held += delta.prompt_logprobs or ()
            if not delta.token_ids and not text and growth.finish is None:
                return []
            self._echoed.add(index)
            text, positions = self._prompt_text(index) + text, held + positions
        has_ids = self._with_ids and delta.token_ids
        if not text and not positions and not has_ids and growth.finish is None:
            return []
        part: Json = {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, positions) if positions else None,
            "finish_reason": growth.finish,
            "stop_reason": delta.stop_reason,
        }
        if self._with_ids:
            part["token_ids"] = delta.token_ids
        return [part]

    def last_fields(self) -> Json:
        return {"perf_metrics": perf_metrics(self._generation)} if self._with_perf else {}

    def _prompt_text(self, index: int) -> str:
        prompt = self._generation.prompt_of(index)
        if prompt.text is not None:
            return prompt.text
        return self._model.renderer.tokenizer.decode(prompt.token_ids, skip_special=False)

    def _logprobs(self, index: int, positions: list[Logprob]) -> Json | None:
        if self._num_top is None:
            return None
        legacy = self._legacy.get(index)
        if legacy is None:
            legacy = self._legacy[index] = LegacyLogprobs(self._num_top)
        return legacy.chunk(positions)


def _mean_logprob(choice: Choice) -> float:
    logprobs = [position.logprob or 0.0 for position in choice.logprobs]
    return sum(logprobs) / max(1, len(logprobs))


@router.post(
    "/v1/completions",
    summary="Continue a text",
    openapi_extra=accepts(CompletionRequest),
    **STREAMED,
)
async def completions(request: Request) -> Response:
    """OpenAI's completions. `echo` with `logprobs` scores the prompt."""
    exchange = Exchange(request)
    parsed = await exchange.parse(CompletionRequest)
    service = parsed.service()
    model = exchange.gateway.served(parsed.model, account_of(request))
    prompts = await model.renderer.completion(parsed, model.max_len)
    generation = await exchange.generation(model, prompts, service, streamed=bool(parsed.stream))
    shape = CompletionShape(model, generation, parsed)
    return await exchange.answer(generation, shape, parsed)
