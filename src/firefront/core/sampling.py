"""Sampling parameters: one frozen record from the API to the sampler, named as vLLM names them.

Knows ranges and caps, nothing of HTTP or tokenizers. `checked()` is the only way in from outside.
"""

import math

import msgspec

from firefront.core.errors import RequestError

MAX_N = 8
MAX_STOP = 16
MAX_STOP_BYTES = 256
MAX_LOGPROBS = 20
MAX_LOGIT_BIAS = 1024
MAX_ALLOWED = 16384
MAX_SEED = 2**63 - 1


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to choose tokens and when to stop. `temperature=0` is greedy; `top_k<=0` means all.

    `max_tokens=None` means up to the end of the context. `logprobs=k` returns the chosen token's
    log-probability and the k likeliest; `prompt_logprobs` likewise for each prompt token but the
    first. `allowed_token_ids`: nothing else is ever chosen, an end only if it is among them.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    skip_special_tokens: bool = True

    def checked(self) -> "SamplingParams":
        """Return self, or raise RequestError naming the first field out of its range."""
        _within("n", self.n, 1, MAX_N)
        _within("temperature", self.temperature, 0.0, 100.0)
        _within("top_p", self.top_p, 0.0, 1.0)
        _within("top_k", self.top_k, -1, 2**31 - 1)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _within("repetition_penalty", self.repetition_penalty, 1e-3, 100.0)
        if self.seed is not None:
            _within("seed", self.seed, -MAX_SEED - 1, MAX_SEED)
        if self.max_tokens is not None:
            _within("max_tokens", self.max_tokens, 0, 2**31 - 1)
        _within("min_tokens", self.min_tokens, 0, 2**31 - 1)
        for name, value in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            if value is not None:
                _within(name, value, 0, MAX_LOGPROBS)
        if len(self.stop) > MAX_STOP:
            raise RequestError(
                f"stop: at most {MAX_STOP} strings, got {len(self.stop)}", param="stop"
            )
        for text in self.stop:
            if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_STOP_BYTES:
                raise RequestError(
                    f"stop: each string must have 1 to {MAX_STOP_BYTES} bytes", param="stop"
                )
        allowed = self.allowed_token_ids
        if allowed is not None and not 1 <= len(allowed) <= MAX_ALLOWED:
            raise RequestError(
                f"allowed_token_ids: 1 to {MAX_ALLOWED} tokens, got {len(allowed)}",
                param="allowed_token_ids",
            )
        if self.logit_bias is not None:
            if len(self.logit_bias) > MAX_LOGIT_BIAS:
                raise RequestError(
                    f"logit_bias: at most {MAX_LOGIT_BIAS} entries, got {len(self.logit_bias)}",
                    param="logit_bias",
                )
            for bias in self.logit_bias.values():
                _within("logit_bias", bias, -100.0, 100.0)
        return self


def _within(name: str, value: float, low: float, high: float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise RequestError(
            f"{name}: must be between {_plain(low)} and {_plain(high)}, got {value!r}", param=name
        )


def _plain(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"
