"""From an API request to token ids and sampling parameters.

Owns the caps on what one request may ask for, and the threads that tokenize. Knows nothing of
replicas or HTTP. Invariant: what leaves here fits the model's context or was refused with both
numbers; nothing is cut off.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import jinja2
import msgspec

from firefront.core.errors import ContextLengthError, RequestError
from firefront.core.sampling import MAX_LOGPROBS, SamplingParams
from firefront.gateway.schemas import ChatRequest, CompletionRequest, GenerationRequest, Message

MAX_PROMPTS = 256
MAX_STOP_TOKEN_IDS = 64
LARGE_PROMPT_BYTES = 64 << 10
COMPLETION_MAX_TOKENS = 16

_TOKEN_ID = re.compile("[0-9]{1,9}")
_T = TypeVar("_T")


class TextPort(Protocol):
    """What the gateway needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    def encode(self, text: str, add_special: bool = True) -> list[int]: ...
    def encode_chat(
        self, messages: list[dict[str, Any]], tools: Any = None, **kwargs: Any
    ) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...
    def token_bytes(self, token_id: int, /) -> bytes: ...


@dataclass(frozen=True)
class Prompt:
    """A prompt ready to run; `text` is None where the client sent token ids."""

    token_ids: list[int]
    text: str | None
    sampling: SamplingParams
    prediction: list[int] = field(default_factory=list)


class Renderer:
    """Renders for one model. `max_len` tokens fit prompt and output together."""

    def __init__(self, tokenizer: TextPort) -> None:
        self.tokenizer = tokenizer
        # No text of more bytes than this times a length can have fewer tokens than that length.
        self._max_token_bytes = max(
            (len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)), default=1
        )
        # Two lanes: a few huge prompts must not hold up all the others.
        self._small = ThreadPoolExecutor(2, "tokenize")
        self._large = ThreadPoolExecutor(1, "tokenize-large")

    async def chat(self, request: ChatRequest, max_len: int) -> Prompt:
        if not request.messages:
            raise RequestError("messages: must hold at least one message", param="messages")
        messages = [_plain_message(m, i) for i, m in enumerate(request.messages)]
        num_bytes = sum(map(_num_chars, request.messages))
        self._gate(num_bytes, max_len, "messages")
        kwargs = request.chat_template_kwargs or {}
        if reserved := kwargs.keys() & {"messages", "tools", "add_generation_prompt"}:
            name = f"chat_template_kwargs.{min(reserved)}"
            raise RequestError(f"{name}: cannot be set", param=name)
        try:
            token_ids = await self._run(
                num_bytes, lambda: self.tokenizer.encode_chat(messages, **kwargs)
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise RequestError(
                f"messages: the model's chat template refuses them: {error}", param="messages"
            ) from None
        limits = {request.max_tokens, request.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise RequestError(
                "max_tokens and max_completion_tokens differ; send one", param="max_tokens"
            )
        wanted = limits.pop() if limits else None
        sampling = sampling_of(request, logprobs=_chat_logprobs(request), prompt_logprobs=None)
        self._check_tokens(sampling)
        prompt = fit(token_ids, None, sampling, wanted, None, max_len, "messages")
        if request.prediction is None:
            return prompt
        prediction = _text(request.prediction.content, "prediction.content")
        return replace(prompt, prediction=await self._predicted(prediction, max_len))

    async def _predicted(self, text: str, max_len: int) -> list[int]:
        """The tokens of an expected answer. One that is too long could not be the answer."""
        self._gate(len(text), max_len, "prediction")
        token_ids = await self._run(len(text), lambda: self.tokenizer.encode(text, False))
        if len(token_ids) > max_len:
            raise ContextLengthError(
                f"prediction: the model's context is {max_len} tokens; it has {len(token_ids)}",
                param="prediction",
            )
        return token_ids

    async def completion(self, request: CompletionRequest, max_len: int) -> list[Prompt]:
        prompts = _prompts(request.prompt)
        prompt_logprobs = request.logprobs if request.echo else None
        sampling = sampling_of(request, logprobs=request.logprobs, prompt_logprobs=prompt_logprobs)
        self._check_tokens(sampling)
        rendered = []
        for prompt in prompts:
            token_ids = await self._tokens(prompt, max_len)
            text = prompt if isinstance(prompt, str) else None
            rendered.append(
                fit(
                    token_ids,
                    text,
                    sampling,
                    request.max_tokens,
                    COMPLETION_MAX_TOKENS,
                    max_len,
                    "prompt",
                )
            )
        return rendered

    async def _tokens(self, prompt: str | list[int], max_len: int) -> list[int]:
        if isinstance(prompt, str):
            self._gate(len(prompt), max_len, "prompt")
            return await self._run(len(prompt), lambda: self.tokenizer.encode(prompt))
        vocab_size = self.tokenizer.vocab_size
        if any(not 0 <= token < vocab_size for token in prompt):
            raise RequestError(f"prompt: token ids must be 0 to {vocab_size - 1}", param="prompt")
        return prompt

    def _check_tokens(self, sampling: SamplingParams) -> None:
        vocab_size = self.tokenizer.vocab_size
        for name, ids in (
            ("logit_bias", sampling.logit_bias or ()),
            ("stop_token_ids", sampling.stop_token_ids),
            ("allowed_token_ids", sampling.allowed_token_ids or ()),
        ):
            if any(not 0 <= token < vocab_size for token in ids):
                raise RequestError(f"{name}: token ids must be 0 to {vocab_size - 1}", param=name)

    def _gate(self, num_chars: int, max_len: int, param: str) -> None:
        """Refuse without tokenizing what cannot fit whatever its tokens are."""
        at_least = num_chars // self._max_token_bytes
        if at_least > max_len:
            raise ContextLengthError(
                f"{param}: the model's context is {max_len} tokens; {num_chars} characters are at "
                f"least {at_least} tokens",
                param=param,
            )

    async def _run(self, num_bytes: int, work: Callable[[], _T]) -> _T:
        lane = self._large if num_bytes > LARGE_PROMPT_BYTES else self._small
        return await asyncio.get_running_loop().run_in_executor(lane, work)


def sampling_of(
    request: GenerationRequest, *, logprobs: int | None, prompt_logprobs: int | None
) -> SamplingParams:
    """The request's sampling parameters, checked; `max_tokens` as given."""
    defaults = SamplingParams()
    given = {name: value for name in _COPIED if (value := getattr(request, name)) is not None}
    stop, allowed = request.stop, request.allowed_token_ids
    token_ids = tuple(request.stop_token_ids or ())
    if len(token_ids) > MAX_STOP_TOKEN_IDS:
        raise RequestError(f"stop_token_ids: at most {MAX_STOP_TOKEN_IDS}", param="stop_token_ids")
    return msgspec.structs.replace(
        defaults,
        **given,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=token_ids,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        logit_bias=_logit_bias(request.logit_bias),
        allowed_token_ids=None if allowed is None else tuple(allowed),
    ).checked()


_MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
_COPIED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
    "include_stop_str_in_output",
    "ignore_eos",
    "max_tokens",
    "min_tokens",
    "skip_special_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


def fit(
    token_ids: list[int],
    text: str | None,
    sampling: SamplingParams,
    wanted: int | None,
    default: int | None,
    max_len: int,
    param: str,
) -> Prompt:
    """Check a prompt against the context; no max_tokens means `default`, or all that is left."""
    num_prompt = len(token_ids)
    if num_prompt == 0:
        raise RequestError(f"{param}: is empty", param=param)
    if num_prompt + (1 if wanted is None else 0) > max_len:
        raise ContextLengthError(
            f"{param}: the model's context is {max_len} tokens; the prompt has {num_prompt}",
            param=param,
        )
    room = max_len - num_prompt
    if wanted is not None:
        msgspec.structs.replace(sampling, max_tokens=wanted).checked()
        if wanted > room:
            raise ContextLengthError(
                f"max_tokens: the model's context is {max_len} tokens; the prompt has {num_prompt} "
                f"and max_tokens is {wanted}, together {num_prompt + wanted}",
                param="max_tokens",
            )
    max_tokens = wanted if wanted is not None else min(room, room if default is None else default)
    if sampling.min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens: {sampling.min_tokens} is more than the {max_tokens} there can be",
            param="min_tokens",
        )
    return Prompt(token_ids, text, msgspec.structs.replace(sampling, max_tokens=max_tokens))


def _chat_logprobs(request: ChatRequest) -> int | None:
    wanted, top = request.logprobs, request.top_logprobs
    if wanted is None or wanted is False:
        if top:
            raise RequestError("top_logprobs: needs logprobs to be true", param="top_logprobs")
        return None
    if top is not None and not 0 <= top <= MAX_LOGPROBS:
        raise RequestError(
            f"top_logprobs: must be between 0 and {MAX_LOGPROBS}, got {top}", param="top_logprobs"
        )
    if wanted is True:
        return top or 0
    return wanted if top is None else top


def _logit_bias(given: dict[str, float] | None) -> dict[int, float] | None:
    if not given:
        return None
    if not all(_TOKEN_ID.fullmatch(key) for key in given):
        raise RequestError("logit_bias: keys must be token ids", param="logit_bias")
    return {int(key): value for key, value in given.items()}


def _prompts(prompt: Any) -> list[str | list[int]]:
    """The four shapes of `prompt` as a list of texts and token lists."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(type(item) is int for item in prompt):
            return [prompt]
        if len(prompt) > MAX_PROMPTS:
            raise RequestError(f"prompt: at most {MAX_PROMPTS} at once", param="prompt")
        if all(isinstance(item, str) for item in prompt):
            return prompt
        if all(isinstance(item, list) and all(type(t) is int for t in item) for item in prompt):
            return prompt
    raise RequestError(
        "prompt: must be text, a list of texts, token ids, or a list of lists of token ids",
        param="prompt",
    )


def _plain_message(message: Message, index: int) -> dict[str, Any]:
    """The message as the chat template expects it; developer is system's newer name."""
    where = f"messages[{index}].content"
    plain: dict[str, Any] = {
        name: value for name in _MESSAGE_FIELDS if (value := getattr(message, name)) is not None
    }
    if message.role == "developer":
        plain["role"] = "system"
    if message.content is None:
        if message.role != "assistant" or not message.tool_calls:
            raise RequestError(f"{where}: is required", param=where)
        plain["content"] = None
    else:
        _text(message.content, where)
    return plain


def _text(content: str | list[dict[str, Any]], where: str) -> str:
    """Text, or the texts of its parts; RequestError for a part that is something else."""
    if isinstance(content, str):
        return content
    for i, part in enumerate(content):
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = str(part.get("type"))[:40]
            name = f"{where}[{i}]"
            raise RequestError(f"{name}: only text is supported, got {kind!r}", param=name)
    return "".join(part["text"] for part in content)


def _num_chars(message: Message) -> int:
    content = message.content or ""
    return len(content) if isinstance(content, str) else sum(len(p["text"]) for p in content)
