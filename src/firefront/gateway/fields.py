"""Body fields that chat and completions share, with their documentation, and what they mean.

Ranges are SamplingParams' business. Fields that only say who asks or where a cache may be
(`user`, `prompt_cache_key`) are accepted and change nothing.
"""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from firefront.core.errors import RequestError
from firefront.core.sampling import SamplingParams
from firefront.gateway.task import Service

MAX_STOP_TOKEN_IDS = 64
MAX_SALT_CHARS = 1024
_TOKEN_ID = re.compile("[0-9]{1,9}")
_TIERS = {"priority": -1, "auto": 0, "default": 0, "standard": 0, "fast": 0, "flex": 1, "batch": 1}
_MAX_PRIORITY = 100


def doc(text: str, **schema: Any) -> Meta:
    """The documentation of a field."""
    return Meta(description=text, extra_json_schema=schema or None)


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: Annotated[bool, doc("a last chunk with usage and no choices")] = False
    continuous_usage_stats: Annotated[bool, doc("usage so far in every chunk")] = False
    include_obfuscation: Annotated[bool, doc("accepted; nothing is padded here")] = False


class GenerationRequest(msgspec.Struct, kw_only=True):
    """Fields that chat and completions share."""

    model: Annotated[str, doc("a name that /v1/models lists")]
    max_tokens: Annotated[int | None, doc("most tokens to generate, for each choice")] = None
    temperature: Annotated[float | None, doc("0 is greedy; 1 if absent")] = None
    top_p: Annotated[float | None, doc("likeliest tokens up to this probability")] = None
    top_k: Annotated[int | None, doc("likeliest tokens up to this number; 0 or -1: all")] = None
    min_p: Annotated[float | None, doc("drop tokens below this share of the likeliest")] = None
    n: Annotated[int | None, doc("choices for each prompt, at most 8")] = None
    seed: Annotated[int | None, doc("same seed, same request: same tokens")] = None
    stop: Annotated[str | list[str] | None, doc("up to 16 strings that end a choice")] = None
    stop_token_ids: Annotated[list[int] | None, doc("tokens that end a choice")] = None
    include_stop_str_in_output: Annotated[bool | None, doc("keep the stop string")] = None
    ignore_eos: Annotated[bool | None, doc("go on past the model's end of text")] = None
    min_tokens: Annotated[int | None, doc("no end before so many tokens")] = None
    skip_special_tokens: Annotated[bool | None, doc("leave control tokens out of text")] = None
    presence_penalty: Annotated[float | None, doc("-2 to 2, once for each token said")] = None
    frequency_penalty: Annotated[float | None, doc("-2 to 2, each time it was said")] = None
    repetition_penalty: Annotated[float | None, doc("over 1 discourages; also the prompt")] = None
    logit_bias: Annotated[dict[str, float] | None, doc("token id to -100..100")] = None
    allowed_token_ids: Annotated[list[int] | None, doc("choose only among these tokens")] = None
    stream: Annotated[bool | None, doc("server-sent events as tokens come")] = None
    stream_options: StreamOptions | None = None
    return_token_ids: Annotated[bool | None, doc("also the ids of prompt and output")] = None
    perf_metrics_in_response: Annotated[
        bool | None, doc("perf_metrics in the answer, or in a stream's last chunk")
    ] = None
    response_format: Annotated[
        dict[str, Any] | None,
        doc("type text, json_object, json_schema, grammar (Lark or GBNF) or regex"),
    ] = None
    structured_outputs: Annotated[
        dict[str, Any] | None, doc("one of json, json_object, regex, choice, grammar")
    ] = None
    guided_json: Annotated[str | dict[str, Any] | None, doc("a JSON Schema")] = None
    guided_regex: Annotated[str | None, doc("a regular expression for the whole answer")] = None
    guided_choice: Annotated[list[str] | None, doc("the texts to choose from")] = None
    guided_grammar: Annotated[str | None, doc("a grammar, Lark or GBNF")] = None
    grammar: Annotated[str | None, doc("a grammar, Lark or GBNF")] = None
    json_schema: Annotated[dict[str, Any] | None, doc("a JSON Schema")] = None
    context_length_exceeded_behavior: Annotated[
        Literal["error", "truncate"] | None, doc("truncate: drop the oldest, shorten max_tokens")
    ] = None
    prompt_truncate_len: Annotated[int | None, doc("most tokens of the prompt")] = None
    truncate_prompt_tokens: Annotated[int | None, doc("the same; -1: what fits")] = None
    service_tier: Annotated[str | None, doc("priority, default or flex")] = None
    priority: Annotated[int | None, doc("lower numbers are served first")] = None
    cache_salt: Annotated[str | None, doc("prefixes are shared only with the same salt")] = None
    prompt_cache_isolation_key: Annotated[str | None, doc("the same as cache_salt")] = None
    prompt_cache_key: Annotated[str | None, doc("accepted: prefixes are found without it")] = None
    user: Annotated[str | None, doc("accepted: says who asks")] = None
    safety_identifier: Annotated[str | None, doc("accepted: says who asks")] = None
    metadata: Annotated[dict[str, str] | None, doc("kept with what is stored")] = None

    def max_prompt_tokens(self) -> int | None:
        """The shortest limit on the prompt, if any."""
        limits = []
        for name in ("prompt_truncate_len", "truncate_prompt_tokens"):
            value = getattr(self, name)
            if value is None or (value == -1 and name == "truncate_prompt_tokens"):
                continue
            if value < 1:
                raise RequestError(f"{name}: must be at least 1", param=name)
            limits.append(value)
        return min(limits, default=None)

    def service(self) -> Service:
        """How it is served."""
        salt = self.cache_salt or self.prompt_cache_isolation_key or ""
        if len(salt) > MAX_SALT_CHARS:
            raise RequestError(
                f"cache_salt: at most {MAX_SALT_CHARS} characters", param="cache_salt"
            )
        if self.service_tier is not None and self.service_tier not in _TIERS:
            raise RequestError(
                f"service_tier: must be one of {', '.join(_TIERS)}", param="service_tier"
            )
        priority = self.priority
        if priority is None:
            priority = _TIERS[self.service_tier or "default"]
        if abs(priority) > _MAX_PRIORITY:
            raise RequestError(
                f"priority: must be -{_MAX_PRIORITY} to {_MAX_PRIORITY}", param="priority"
            )
        return Service(priority=priority, cache_salt=salt)


def sampling_of(
    request: GenerationRequest,
    *,
    logprobs: int | None,
    prompt_logprobs: int | None,
    max_tokens: int | None,
) -> SamplingParams:
    """The request's sampling parameters, checked."""
    given = {name: value for name in _COPIED if (value := getattr(request, name)) is not None}
    stop, allowed = request.stop, request.allowed_token_ids
    token_ids = tuple(request.stop_token_ids or ())
    if len(token_ids) > MAX_STOP_TOKEN_IDS:
        raise RequestError(f"stop_token_ids: at most {MAX_STOP_TOKEN_IDS}", param="stop_token_ids")
    return msgspec.structs.replace(
        SamplingParams(),
        **given,
        max_tokens=max_tokens,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=token_ids,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        logit_bias=_logit_bias(request.logit_bias),
        allowed_token_ids=None if allowed is None else tuple(allowed),
    ).checked()


def _logit_bias(given: dict[str, float] | None) -> dict[int, float] | None:
    # A bias of 0 changes nothing, whatever its key names.
    given = {key: value for key, value in (given or {}).items() if value != 0}
    if not given:
        return None
    if not all(_TOKEN_ID.fullmatch(key) for key in given):
        raise RequestError("logit_bias: keys must be token ids", param="logit_bias")
    return {int(key): value for key, value in given.items()}


_COPIED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
