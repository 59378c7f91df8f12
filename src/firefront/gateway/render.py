"""From an API request to token ids, sampling parameters, a grammar and a reader of the answer.

Owns the threads that tokenize. Knows nothing of replicas or HTTP. Invariant: what leaves here fits
the model's context or was refused with both numbers; nothing is cut off unless the request said so.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import jinja2
import msgspec

from firefront.core.errors import ContextLengthError, RequestError
from firefront.core.sampling import SamplingParams
from firefront.gateway.completion_body import CompletionRequest, prompts_of
from firefront.gateway.constraints import constraint_of
from firefront.gateway.fields import sampling_of
from firefront.gateway.task import ChatTask
from firefront.text.answer import AnswerReader, PlainReader
from firefront.text.answer_format import AnswerFormat, allowed_tools, opens_thought
from firefront.text.grammar import answer_grammar

INLINE_PROMPT_CHARS = 1000  # no more than 0.4 ms, hardly more than a thread's help would cost
LARGE_PROMPT_BYTES = 64 << 10
COMPLETION_MAX_TOKENS = 16
_T = TypeVar("_T")


class TextPort(Protocol):
    """What the gateway needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def eos_ids(self) -> frozenset[int]: ...
    @property
    def answer_format(self) -> AnswerFormat: ...
    def encode(
        self, text: str, add_special: bool = True, *, parse_special: bool = False
    ) -> list[int]: ...
    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Any = None,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        **kwargs: Any,
    ) -> list[int]: ...
    def chat_text(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Any = None,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        **kwargs: Any,
    ) -> str: ...
    def info(self) -> dict[str, Any]: ...
    def encode_infill(self, prefix: str, suffix: str) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...
    def token_bytes(self, token_id: int, /) -> bytes: ...
    def with_template(self, text: str, source: str) -> "TextPort": ...


@dataclass(frozen=True)
class Prompt:
    """A prompt ready to run; `text` is None where the client sent token ids. `grammar_param` is the
    field that asks for the grammar, for errors."""

    token_ids: list[int]
    text: str | None
    sampling: SamplingParams
    prediction: list[int] = field(default_factory=list)
    grammar: str | None = None
    grammar_param: str = "response_format"
    reader: Callable[[], AnswerReader] = PlainReader


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

    @property
    def knows_chat(self) -> bool:
        """Whether the model has a chat template."""
        return self.tokenizer.info()["chat_template"] is not None

    async def chat(self, task: ChatTask, max_len: int) -> Prompt:
        """The prompt of a conversation."""
        self._check_tokens(task.sampling)
        token_ids = await self.chat_tokens(task, max_len)
        sampling = _fitted(len(token_ids), task, max_len)
        answers = self.tokenizer.answer_format
        with_tools = bool(task.tools) and task.tool_choice.mode != "none"
        in_thought = task.add_generation_prompt and opens_thought(self.tokenizer, token_ids)
        if answers.shows_special(with_tools=with_tools):
            sampling = msgspec.structs.replace(sampling, skip_special_tokens=False)
        grammar = await self._grammar(
            answers,
            constraint=task.constraint,
            tools=task.tools,
            choice=task.tool_choice,
            parallel=task.parallel_tool_calls,
            thinking=task.thinking,
            in_thought=in_thought,
        )
        return Prompt(
            token_ids,
            None,
            sampling,
            prediction=await self._predicted(task, max_len),
            grammar=grammar,
            grammar_param=task.constraint.param if task.constraint is not None else "tools",
            reader=lambda: answers.reader(
                with_tools=with_tools,
                in_thought=in_thought,
                tools=allowed_tools(task.tools, task.tool_choice),
                is_free=task.tool_choice.mode == "auto" and task.constraint is None,
            ),
        )

    async def chat_tokens(self, task: ChatTask, max_len: int) -> list[int]:
        """The conversation's tokens; the oldest turns are dropped where the task allows it."""
        encode = self.tokenizer.encode_chat
        token_ids = await self._render(encode, task, task.messages, max_len)
        limit = task.max_prompt_tokens or max_len
        if task.overflow == "truncate":
            limit = min(limit, max_len - 1)
        if len(token_ids) <= limit:
            return token_ids
        if task.overflow != "truncate" and task.max_prompt_tokens is None:
            return token_ids  # refused, with the numbers, by who fits it
        pinned = [m for m in task.messages if m["role"] == "system"]
        turns = [i for i, m in enumerate(task.messages) if m["role"] == "user"]
        fits: list[int] | None = None
        first, last = 1, len(turns) - 1  # where the kept turns may begin
        while first <= last:
            middle = (first + last) // 2
            kept = pinned + [m for m in task.messages[turns[middle] :] if m["role"] != "system"]
            token_ids = await self._render(encode, task, kept, max_len)
            if len(token_ids) <= limit:
                fits, last = token_ids, middle - 1
            else:
                first = middle + 1
        if fits is None:
            where = task.names.messages
            raise ContextLengthError(
                f"{where}: the last turn alone has {len(token_ids)} tokens, at most {limit} fit",
                param=where,
            )
        return fits

    async def chat_text(self, task: ChatTask, max_len: int) -> str:
        """The conversation as the model's template writes it."""
        return await self._render(self.tokenizer.chat_text, task, task.messages, max_len)

    async def plain_tokens(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The tokens of a text, whatever their number."""
        return await self._run(
            len(text),
            lambda: self.tokenizer.encode(text, add_special, parse_special=parse_special),
        )

    async def _render(
        self,
        render: Callable[..., _T],
        task: ChatTask,
        messages: list[dict[str, Any]],
        max_len: int,
    ) -> _T:
        where = task.names.messages
        num_bytes = sum(map(_num_chars, messages))
        if task.overflow != "truncate" and task.max_prompt_tokens is None:
            self._gate(num_bytes, max_len, where)
        answers = self.tokenizer.answer_format
        used = task.tools if task.tool_choice.mode != "none" else ()
        prepared, tools = answers.prepare(messages, used, task.tool_choice)
        kwargs = {**answers.template_kwargs(task.thinking), **task.template_kwargs}
        try:
            return await self._run(
                num_bytes + (INLINE_PROMPT_CHARS + 1 if tools else 0),  # they are text, too
                lambda: render(
                    prepared,
                    tools,
                    add_generation_prompt=task.add_generation_prompt,
                    continues_last=task.continues_last,
                    **kwargs,
                ),
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise RequestError(
                f"{where}: the model's chat template refuses them: {error}", param=where
            ) from None

    async def _predicted(self, task: ChatTask, max_len: int) -> list[int]:
        """The tokens of an expected answer. One that is too long could not be the answer."""
        text, where = task.prediction, task.names.prediction
        if text is None:
            return []
        self._gate(len(text), max_len, where)
        token_ids = await self._run(len(text), lambda: self.tokenizer.encode(text, False))
        if len(token_ids) > max_len:
            raise ContextLengthError(
                f"{where}: the model's context is {max_len} tokens; it has {len(token_ids)}",
                param=where,
            )
        return token_ids

    async def completion(self, request: CompletionRequest, max_len: int) -> list[Prompt]:
        """The prompts of a completion, each to be continued `num_sequences` times."""
        prompts = prompts_of(request.prompt)
        num_sequences = request.num_sequences()
        is_ranked = num_sequences != (request.n or 1)
        sampling = sampling_of(
            request,
            logprobs=0 if is_ranked and request.logprobs is None else request.logprobs,
            prompt_logprobs=request.logprobs if request.echo else None,
            max_tokens=request.max_tokens,
        )
        sampling = msgspec.structs.replace(sampling, n=num_sequences)
        self._check_tokens(sampling)
        constraint = constraint_of(request)
        # A completion is no answer in a conversation: no thought goes before it.
        grammar = await self._grammar(AnswerFormat(), constraint=constraint)
        param = constraint.param if constraint is not None else ""
        rendered = []
        for prompt in prompts:
            token_ids = await self._tokens(prompt, request, max_len)
            text = prompt if isinstance(prompt, str) else None
            fitted = fit(
                len(token_ids),
                sampling,
                max_len,
                "prompt",
                "max_tokens",
                default=COMPLETION_MAX_TOKENS,
                shortens=request.context_length_exceeded_behavior == "truncate",
            )
            rendered.append(
                Prompt(token_ids, text, fitted, grammar=grammar, grammar_param=param)
            )
        return rendered

    async def _tokens(
        self, prompt: str | list[int], request: CompletionRequest, max_len: int
    ) -> list[int]:
        limit = request.max_prompt_tokens()
        cuts = limit is not None or request.context_length_exceeded_behavior == "truncate"
        if isinstance(prompt, str):
            num_chars = len(prompt) + len(request.suffix or "")
            if not cuts:
                self._gate(num_chars, max_len, "prompt")
            suffix = request.suffix
            token_ids = await self._run(
                num_chars,
                lambda: (
                    self.tokenizer.encode_infill(prompt, suffix)
                    if suffix
                    else self.tokenizer.encode(prompt)
                ),
            )
        else:
            vocab_size = self.tokenizer.vocab_size
            if any(not 0 <= token < vocab_size for token in prompt):
                raise RequestError(
                    f"prompt: token ids must be 0 to {vocab_size - 1}", param="prompt"
                )
            if request.suffix:
                raise RequestError("suffix: needs a prompt of text", param="suffix")
            token_ids = prompt
        return token_ids[-min(limit or max_len, max_len - 1) :] if cuts else token_ids

    async def _grammar(self, answers: AnswerFormat, **fields: Any) -> str | None:
        """`answer_grammar`; off the event loop where it is not trivial: a schema may be large."""
        is_trivial = fields.get("constraint") is None and not fields.get("tools")
        num_chars = 0 if is_trivial else INLINE_PROMPT_CHARS + 1
        return await self._run(num_chars, lambda: answer_grammar(answers, **fields))

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
        if num_bytes <= INLINE_PROMPT_CHARS:
            return work()
        lane = self._large if num_bytes > LARGE_PROMPT_BYTES else self._small
        return await asyncio.get_running_loop().run_in_executor(lane, work)


def _fitted(num_prompt: int, task: ChatTask, max_len: int) -> SamplingParams:
    names = task.names
    shortens = task.overflow != "error"
    return fit(
        num_prompt, task.sampling, max_len, names.messages, names.max_tokens, shortens=shortens
    )


def fit(
    num_prompt: int,
    sampling: SamplingParams,
    max_len: int,
    prompt_name: str,
    max_name: str,
    *,
    default: int | None = None,
    shortens: bool = False,
) -> SamplingParams:
    """Check lengths against the context; no max_tokens means `default`, or all that is left.

    `shortens`: a max_tokens for which there is no room becomes what there is.
    """
    wanted = sampling.max_tokens
    if num_prompt == 0:
        raise RequestError(f"{prompt_name}: is empty", param=prompt_name)
    must_fit = 1 if wanted is None or (shortens and wanted) else 0
    if num_prompt + must_fit > max_len:
        raise ContextLengthError(
            f"{prompt_name}: the model's context is {max_len} tokens; the prompt has {num_prompt}",
            param=prompt_name,
        )
    room = max_len - num_prompt
    if wanted is not None and wanted > room and not shortens:
        raise ContextLengthError(
            f"{max_name}: the model's context is {max_len} tokens; the prompt has {num_prompt} "
            f"and {max_name} is {wanted}, together {num_prompt + wanted}",
            param=max_name,
        )
    if wanted is None:
        wanted = room if default is None else default
    max_tokens = min(room, wanted)
    if sampling.min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens: {sampling.min_tokens} is more than the {max_tokens} there can be",
            param="min_tokens",
        )
    return msgspec.structs.replace(sampling, max_tokens=max_tokens)


def _num_chars(message: dict[str, Any]) -> int:
    content = message.get("content") or ""
    return (
        len(content)
        if isinstance(content, str)
        else sum(len(part.get("text") or "") for part in content)
    )
