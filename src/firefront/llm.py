"""`firefront.LLM`: a model inside the caller's process, called as vLLM's class of that name.

Owns prompts in and results out; the engine does the rest. Not thread-safe.
Invariant: after a call, whether it returned or raised, the engine is empty.
"""

import contextlib
import itertools
import operator
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import msgspec

from firefront.core import messages
from firefront.core.deployment import load_deployment
from firefront.core.errors import ContextLengthError, OverloadedError, RequestError
from firefront.core.sampling import SamplingParams
from firefront.engine.engine import Engine
from firefront.text.constraint_fields import structured_outputs
from firefront.text.constraint_grammar import constraint_rules
from firefront.text.rules import grammar_source
from firefront.text.tokenizer import Tokenizer

BURST_S = 0.25  # nobody waits for single tokens, but an interrupt should not wait long

Prompt = str | Mapping[str, Any] | Sequence[int]
Message = Mapping[str, Any]
Prediction = str | Sequence[str | None] | None
Adapter = str | os.PathLike[str] | Sequence[str | os.PathLike[str] | None] | None


@dataclass(frozen=True)
class Logprob:
    """`rank` (1 = likeliest) is None for a token outside the requested likeliest ones."""

    logprob: float
    rank: int | None
    decoded_token: str


@dataclass
class CompletionOutput:
    """One generated sequence. `finish_reason`: stop, length or error."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    """A prompt and its outputs. `prompt_logprobs` begins with None: nothing predicts a start."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool


class LLM:
    """Loads `model`; `fields` are those of a deployment (threads=, context=, token_budget=, ...).

    `seed` makes requests without a seed of their own repeatable.
    """

    def __init__(self, model: str, *, seed: int = 0, **fields: Any) -> None:
        from firefront.engine.load import build_engine

        deployment = load_deployment(None, model=model, **fields)
        self._take(*build_engine(deployment, seed=seed, hold_s=BURST_S))

    @classmethod
    def from_engine(cls, engine: Engine, tokenizer: Tokenizer) -> "LLM":
        """An LLM around an engine that exists already."""
        llm = cls.__new__(cls)
        llm._take(engine, tokenizer)
        return llm

    def _take(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._num_requests = itertools.count()

    def get_tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = False,
        adapter: Adapter = None,
        prediction: Prediction = None,
        structured_outputs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Complete each prompt: text, {"prompt": text}, {"prompt_token_ids": ids} or ids.

        `adapter`: folder of a LoRA adapter as PEFT saves it, one or one a prompt; None is the base.
        `prediction`: expected text, one or one a prompt; where it is right, tokens come sooner.
        `structured_outputs`: what every output must be, one of {"json": schema}, {"json_object":
        True}, {"regex": pattern}, {"choice": texts}, {"grammar": Lark or GBNF}.
        Raises RequestError before anything runs if one of the prompts or parameters is wrong.
        """
        pairs = [self._tokenized(prompt) for prompt in _prompt_list(prompts)]
        return self._run(pairs, sampling_params, use_tqdm, adapter, prediction, structured_outputs)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = False,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        adapter: Adapter = None,
        prediction: Prediction = None,
        structured_outputs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation or each of a list, rendered by the model's chat template.

        `adapter`, `prediction` and `structured_outputs` as for `generate`.
        """
        is_one = bool(messages) and isinstance(messages[0], Mapping)
        conversations: Any = [messages] if is_one else messages
        pairs: list[tuple[str | None, list[int]]] = []
        for conversation in conversations:
            ids = self._tokenizer.encode_chat(
                conversation, tools, add_generation_prompt, **(chat_template_kwargs or {})
            )
            pairs.append((self._tokenizer.decode(ids, skip_special=False), ids))
        return self._run(pairs, sampling_params, use_tqdm, adapter, prediction, structured_outputs)

    def _tokenized(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        if isinstance(prompt, Mapping):
            if (ids := prompt.get("prompt_token_ids")) is not None:
                return prompt.get("prompt"), _token_list(ids)
            if not isinstance(prompt.get("prompt"), str):
                raise RequestError("prompt: give prompt or prompt_token_ids", param="prompt")
            text: str = prompt["prompt"]
            return text, self._tokenizer.encode(text)
        if isinstance(prompt, str):
            return prompt, self._tokenizer.encode(prompt)
        return None, _token_list(prompt)

    def _adapters(self, adapter: Adapter, count: int) -> list[messages.AdapterRef | None]:
        """Each prompt's adapter. ModelFileError or RequestError name one that cannot be used."""
        is_many = isinstance(adapter, Sequence) and not isinstance(adapter, str)
        folders: list[Any] = list(adapter or ()) if is_many else [adapter] * count
        if len(folders) != count:
            raise RequestError(
                f"adapter: {len(folders)} for {count} prompts; give one, or one a prompt",
                param="adapter",
            )
        refs: dict[Any, messages.AdapterRef | None] = {None: None}
        for folder in folders:
            if not isinstance(folder, str | os.PathLike | None):
                raise RequestError(
                    f"adapter: must be a folder, got {type(folder).__name__}", param="adapter"
                )
            if folder not in refs:
                refs[folder] = self._adapter_ref(Path(folder))
        return [refs[folder] for folder in folders]

    def _adapter_ref(self, folder: Path) -> messages.AdapterRef:
        from firefront.weights.adapter_store import adapter_sha256

        path = folder.expanduser().absolute()
        ref = messages.AdapterRef(name=path.name, sha256=adapter_sha256(path), path=str(path))
        self._engine.check_adapter(ref)
        return ref

    def _predicted(self, prediction: Prediction, count: int) -> list[list[int]]:
        """Each prompt's expected tokens, none for None; longer than the context cannot be right."""
        is_one = prediction is None or isinstance(prediction, str)
        texts: list[Any] = [prediction] * count if is_one else list(prediction or ())
        if len(texts) != count:
            raise RequestError(
                f"prediction: {len(texts)} for {count} prompts; give one, or one a prompt",
                param="prediction",
            )
        limit, predicted = self._engine.max_model_len, []
        for text in texts:
            if not isinstance(text, str | None):
                raise RequestError(
                    f"prediction: must be text, got {type(text).__name__}", param="prediction"
                )
            ids = self._tokenizer.encode(text, False) if text else []
            if len(ids) > limit:
                raise ContextLengthError(
                    f"prediction: the model's context is {limit} tokens; it has {len(ids)}",
                    param="prediction",
                )
            predicted.append(ids)
        return predicted

    def _run(
        self,
        prompts: list[tuple[str | None, list[int]]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        use_tqdm: bool,
        adapter: Adapter,
        prediction: Prediction,
        structured: Mapping[str, Any] | None,
    ) -> list[RequestOutput]:
        grammar = _grammar(structured)
        refs = self._adapters(adapter, len(prompts))
        results: list[RequestOutput] = []
        submits: list[list[messages.Submit]] = []
        params = _params_list(sampling_params, len(prompts))
        predicted = self._predicted(prediction, len(prompts))
        for (text, ids), sampling, ref, guess in zip(
            prompts, params, refs, predicted, strict=True
        ):
            request_id = str(next(self._num_requests))
            samples = [
                messages.Submit(
                    request_id=f"{request_id}-{i}",
                    generation=0,
                    token_ids=ids,
                    sampling=_sample_params(sampling, i),
                    adapter=ref,
                    prediction=guess,
                    grammar=grammar,
                )
                for i in range(sampling.n)
            ]
            self._engine.check(samples[0])
            submits.append(samples)
            outputs = [_empty_output(i, sampling) for i in range(sampling.n)]
            results.append(RequestOutput(request_id, text, ids, None, outputs, False))
        with _progress(sum(map(len, submits)), use_tqdm) as advance:
            self._run_all(submits, results, advance)
        return results

    def _run_all(
        self,
        submits: list[list[messages.Submit]],
        results: list[RequestOutput],
        advance: Callable[[], None],
    ) -> None:
        """Keep the engine full until everything is done. A prompt's further samples follow its
        first token, when its blocks can be shared."""
        queue = deque(samples[0] for samples in submits)
        siblings = {samples[0].request_id: samples[1:] for samples in submits}
        target = {
            submit.request_id: (result, result.outputs[i])
            for samples, result in zip(submits, results, strict=True)
            for i, submit in enumerate(samples)
        }
        try:
            while target:
                while queue:
                    try:
                        self._engine.submit(queue[0])
                    except OverloadedError:
                        break
                    queue.popleft()
                for delta in self._engine.step():
                    queue.extendleft(reversed(siblings.pop(delta.request_id, [])))
                    _collect(delta, *target[delta.request_id])
                    if delta.finish is not None:
                        result, _ = target.pop(delta.request_id)
                        result.finished = all(o.finish_reason for o in result.outputs)
                        advance()
        finally:
            for request_id in target:
                self._engine.abort(request_id, 0)
            while self._engine.has_work:
                self._engine.step()


def _grammar(structured: Mapping[str, Any] | None) -> str | None:
    if structured is None:
        return None
    rules = constraint_rules(structured_outputs(dict(structured)))
    return grammar_source(rules.expression, [rules])


def _prompt_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str | Mapping):
        return [prompts]
    try:
        items: list[Any] = list(prompts)
    except TypeError:
        raise _not_a_prompt(prompts) from None
    return [items] if items and isinstance(items[0], Integral) else items


def _token_list(ids: Any) -> list[int]:
    """Token ids of any integer type, numpy's too, as plain ints."""
    try:
        return [operator.index(token) for token in ids]
    except TypeError:
        raise _not_a_prompt(ids) from None


def _not_a_prompt(value: Any) -> RequestError:
    return RequestError(
        f"prompt: must be text, token ids or a dict with one of these, got {type(value).__name__}",
        param="prompt",
    )


def _params_list(
    given: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> list[SamplingParams]:
    if given is None or isinstance(given, SamplingParams):
        return [_normal(given or SamplingParams())] * count
    if len(given) != count:
        raise RequestError(
            f"sampling_params: {len(given)} for {count} prompts; give one, or one a prompt",
            param="sampling_params",
        )
    return [_normal(params) for params in given]


def _normal(params: SamplingParams) -> SamplingParams:
    """The same with every field of the right type; a lone stop string becomes a tuple."""
    fields = msgspec.structs.asdict(params)
    if isinstance(params.stop, str):
        fields["stop"] = (params.stop,)
    fields = {name: () if value is None and name in ("stop", "stop_token_ids") else value
              for name, value in fields.items()}  # fmt: skip
    try:
        return msgspec.convert(fields, SamplingParams).checked()
    except msgspec.ValidationError as error:
        raise RequestError(f"sampling_params: {error}", param="sampling_params") from None


def _sample_params(sampling: SamplingParams, i: int) -> SamplingParams:
    """The i-th of n samples: its own seed, and the prompt scored only once."""
    if i == 0:
        return msgspec.structs.replace(sampling, n=1)
    seed = sampling.seed
    if seed is not None:
        seed = (seed + i + 2**63) % 2**64 - 2**63
    return msgspec.structs.replace(sampling, n=1, seed=seed, prompt_logprobs=None)


def _empty_output(index: int, sampling: SamplingParams) -> CompletionOutput:
    if sampling.logprobs is None:
        return CompletionOutput(index, "", [], None, None)
    return CompletionOutput(index, "", [], 0.0, [])


def _collect(delta: messages.Delta, result: RequestOutput, output: CompletionOutput) -> None:
    output.text += delta.text
    output.token_ids += delta.token_ids
    if delta.logprobs and output.logprobs is not None and output.cumulative_logprob is not None:
        output.logprobs += [_logprob_dict(entry) for entry in delta.logprobs]
        output.cumulative_logprob += sum(entry.logprob or 0.0 for entry in delta.logprobs)
    if delta.prompt_logprobs is not None:
        result.prompt_logprobs = [
            None if entry.logprob is None else _logprob_dict(entry)
            for entry in delta.prompt_logprobs
        ]
    if delta.finish is not None:
        output.finish_reason, output.stop_reason = delta.finish, delta.stop_reason
        if delta.finish == "error":
            warnings.warn(f"request {delta.request_id}: {delta.error}", stacklevel=5)


def _logprob_dict(entry: messages.Logprob) -> dict[int, Logprob]:
    """The chosen token first, then the likeliest by rank."""
    assert entry.logprob is not None
    chosen = {entry.token_id: Logprob(entry.logprob, None, _text(entry.token_bytes))}
    return chosen | {
        token: Logprob(logprob, rank, _text(token_bytes))
        for rank, (token, logprob, token_bytes) in enumerate(entry.top, start=1)
    }


def _text(token_bytes: bytes) -> str:
    return token_bytes.decode("utf-8", "replace")


@contextlib.contextmanager
def _progress(total: int, is_shown: bool) -> Iterator[Callable[[], None]]:
    if not is_shown:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress() as progress:
        task = progress.add_task("sequences", total=total)
        yield lambda: progress.advance(task)
