"""The sampler's reference: from a row of logits to a token, in numpy. What C++ must agree with.

Order: log-probabilities of the raw logits; then logit bias, mask, repetition penalty, presence and
frequency penalties, temperature, top-k, min-p, top-p, draw. Filters mean what vLLM's mean.
The draw is a function of (seed, position) alone. Logits are float32 up to the temperature,
probabilities float64. Legend: R logit rows, V vocabulary, K most alternatives of a row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.core.step import SamplerRows, StepResult
from firefront.ops.spec import F32

GREEDY_BELOW = 1e-5  # temperatures under this are greedy, as in vLLM
_MASK_64 = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 24 random bits: splitmix64's output number `position` from `seed`.

    Counter-based (Steele, Lea and Flood, 2014), so it needs no state and no order of calls.
    """
    z = (seed + (position + 1) * 0x9E3779B97F4A7C15) & _MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK_64
    z ^= z >> 31
    return (z >> 40) / float(1 << 24)


def sample(logits_RV: F32, sampler: SamplerRows) -> StepResult:
    """Choose (or, where target >= 0, score) one token a row.

    A row whose logits are not all finite, or whose mask allows nothing, is bad: token 0,
    log-probability -inf, rank 0. Unused alternatives are token -1, log-probability -inf.
    """
    num_rows = len(sampler.rows)
    assert logits_RV.shape[0] == num_rows
    most = max([int(row["num_logprobs"]) for row in sampler.rows] + [0])
    result = StepResult(
        token_ids=np.zeros(num_rows, np.int32),
        logprobs=np.full(num_rows, -np.inf, np.float32),
        ranks=np.zeros(num_rows, np.int32),
        top_ids=np.full((num_rows, most), -1, np.int32),
        top_logprobs=np.full((num_rows, most), -np.inf, np.float32),
        bad_rows=np.zeros(num_rows, np.uint8),
    )
    for index, row in enumerate(sampler.rows):
        raw_V = logits_RV[index]
        token = _choose(raw_V, row, sampler) if np.isfinite(raw_V).all() else None
        if token is None:
            result.bad_rows[index] = 1
            continue
        logprobs_V = log_softmax(raw_V)
        result.token_ids[index] = token
        result.logprobs[index] = logprobs_V[token]
        result.ranks[index] = 1 + np.count_nonzero(raw_V > raw_V[token])
        if row["num_logprobs"] > 0:
            top = np.argsort(-raw_V, kind="stable")[: int(row["num_logprobs"])]
            result.top_ids[index, : len(top)] = top
            result.top_logprobs[index, : len(top)] = logprobs_V[top]
    return result


def log_softmax(logits_V: F32) -> F32:
    """Natural log-probabilities, summed in float64."""
    shifted = logits_V.astype(np.float64) - np.max(logits_V)
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float32)


def _choose(raw_V: F32, row: Any, sampler: SamplerRows) -> int | None:
    """The token, or None if nothing is allowed. Ties of the greedy choice: the lowest id."""
    if row["target"] >= 0:
        return int(row["target"])
    logits_V = penalised(raw_V, row, sampler)
    if not np.isfinite(logits_V).any():
        return None
    if row["temperature"] < GREEDY_BELOW:
        return int(np.argmax(logits_V))
    weights_V = filtered(logits_V, row)
    cumulative_V = np.cumsum(weights_V)
    threshold = uniform(int(row["seed"]), int(row["position"])) * cumulative_V[-1]
    token = int(np.searchsorted(cumulative_V, threshold, side="right"))
    return min(token, int(np.flatnonzero(weights_V)[-1]))


def penalised(raw_V: F32, row: Any, sampler: SamplerRows) -> F32:
    """Logits after bias, mask and penalties: float32, -inf where not allowed."""
    logits_V = raw_V.astype(np.float32, copy=True)
    bias = slice(int(row["bias_start"]), int(row["bias_start"]) + int(row["bias_len"]))
    np.add.at(logits_V, sampler.bias_ids[bias], sampler.bias_values[bias])
    if row["mask_row"] >= 0:
        allowed = unpack_mask(sampler.masks[int(row["mask_row"])], len(logits_V))
        logits_V[~allowed] = -np.inf
    start, length = int(row["history_start"]), int(row["history_len"])
    history = sampler.history[start : start + length]
    if row["repetition_penalty"] != 1:
        seen = np.unique(history)
        scores = logits_V[seen]
        penalty = row["repetition_penalty"]
        logits_V[seen] = np.where(scores > 0, scores / penalty, scores * penalty)
    output, counts = np.unique(history[int(row["history_prompt_len"]) :], return_counts=True)
    logits_V[output] -= row["frequency_penalty"] * counts.astype(np.float32)
    logits_V[output] -= row["presence_penalty"]
    return logits_V


def unpack_mask(words: NDArray[np.uint32], vocab_size: int) -> NDArray[np.bool_]:
    """Bit t % 32 of word t // 32 says whether token t is allowed."""
    tokens = np.arange(vocab_size)
    bits = words[tokens // 32] >> (tokens % 32).astype(np.uint32)
    return (bits & np.uint32(1)).astype(np.bool_)


def filtered(logits_V: F32, row: Any) -> NDArray[np.float64]:
    """Unnormalised probabilities after temperature, top-k, min-p and top-p; 0 is filtered out.

    top-k keeps ties with the k-th; min-p keeps p >= min_p * max p; top-p keeps the likeliest tokens
    (ties: lowest id first) until their sum reaches top_p, and always the first.
    """
    scaled_V = logits_V / row["temperature"]
    top_k = int(row["top_k"])
    if 0 < top_k < len(scaled_V):
        kth = np.partition(scaled_V, -top_k)[-top_k]
        scaled_V = np.where(scaled_V >= kth, scaled_V, np.float32(-np.inf))
    weights_V: NDArray[np.float64] = np.exp(scaled_V.astype(np.float64) - np.max(scaled_V))
    if row["min_p"] > 0:
        weights_V[weights_V < row["min_p"]] = 0
    if row["top_p"] < 1:
        order = np.argsort(-weights_V, kind="stable")
        before = np.cumsum(weights_V[order]) - weights_V[order]
        dropped = before >= float(row["top_p"]) * weights_V.sum()
        dropped[0] = False
        weights_V[order[dropped]] = 0
    return weights_V
