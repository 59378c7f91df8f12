"""Everything that can be wrong with a Submit, found before anything is allocated for it.

Owns the limits that depend on model and pool; the ranges of sampling fields are in core/sampling.
Invariant: a Submit that passes can run to its end alone in the pool.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import ContextLengthError, NotFoundError, RequestError
from firefront.core.messages import Submit
from firefront.core.step import BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sequence may use. `has_text`: there is a tokenizer to look for stop strings;
    `has_grammars`: one to follow grammars; `has_adapters`: an executor that takes adapters."""

    vocab_size: int
    max_model_len: int
    num_blocks: int
    has_text: bool
    has_grammars: bool = False
    has_adapters: bool = False

    @property
    def max_len(self) -> int:
        """Most tokens of one sequence, prompt and output: the context, or the pool if smaller."""
        return min(self.max_model_len, self.num_blocks * BLOCK_SIZE)


def check(submit: Submit, limits: Limits) -> tuple[NDArray[np.int32], int]:
    """Return the prompt as an array, and max_tokens clipped to what fits.

    Raises RequestError (also ContextLengthError, NotFoundError) naming the field at fault.
    """
    sampling = submit.sampling.checked()
    prompt = _prompt_array(submit.token_ids, limits.vocab_size)
    _check_length(len(prompt), sampling.max_tokens, limits)
    if submit.adapter is not None and not limits.has_adapters:
        raise NotFoundError(f"adapter {submit.adapter.name!r} is not loaded here", param="model")
    if submit.grammar is not None and not limits.has_grammars:
        raise RequestError("grammar: needs a tokenizer", param="grammar")
    if submit.deadline_s is not None and not submit.deadline_s > 0:
        raise RequestError(f"deadline_s: must be positive, got {submit.deadline_s!r}",
                           param="deadline_s")  # fmt: skip
    if sampling.stop and not limits.has_text:
        raise RequestError("stop: needs a tokenizer; use stop_token_ids", param="stop")
    for name, ids in (
        ("stop_token_ids", sampling.stop_token_ids),
        ("logit_bias", sampling.logit_bias or ()),
        ("allowed_token_ids", sampling.allowed_token_ids or ()),
    ):
        for token in ids:
            if not 0 <= token < limits.vocab_size:
                raise RequestError(
                    f"{name}: token {token} is outside the vocabulary of {limits.vocab_size}",
                    param=name,
                )
    if submit.prediction and not (
        min(submit.prediction) >= 0 and max(submit.prediction) < limits.vocab_size
    ):
        raise RequestError("prediction: a token is outside the vocabulary", param="prediction")
    room = limits.max_len - len(prompt)
    return prompt, room if sampling.max_tokens is None else min(sampling.max_tokens, room)


def _prompt_array(token_ids: list[int], vocab_size: int) -> NDArray[np.int32]:
    if len(token_ids) == 0:
        raise RequestError("prompt: is empty; give at least one token", param="prompt")
    try:
        ids = np.asarray(token_ids)
    except (OverflowError, ValueError):
        ids = np.empty(0)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise RequestError("prompt: token ids must be a flat list of integers", param="prompt")
    outside = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if len(outside):
        idx = int(outside[0])
        raise RequestError(
            f"prompt: token {ids[idx]} at index {idx} is outside the vocabulary of {vocab_size}",
            param="prompt",
        )
    return ids.astype(np.int32)


def _check_length(prompt_len: int, max_tokens: int | None, limits: Limits) -> None:
    wanted = prompt_len if max_tokens == 0 else prompt_len + 1
    if wanted > limits.max_model_len:
        raise ContextLengthError(
            f"This model's maximum context length is {limits.max_model_len} tokens. However, your "
            f"prompt has {prompt_len} tokens, which leaves no room for the output. Please reduce "
            "the length of the prompt.",
            param="prompt",
        )
    if wanted > limits.max_len:
        raise ContextLengthError(
            f"The prompt has {prompt_len} tokens, but the KV cache of this deployment holds "
            f"{limits.max_len} tokens ({limits.num_blocks} blocks of {BLOCK_SIZE}). Please reduce "
            "the length of the prompt, or serve with more kv_blocks.",
            param="prompt",
        )
