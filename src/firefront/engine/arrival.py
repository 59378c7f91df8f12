"""From a Submit that passed admission to the Sequence that runs: endings, text, sampler row."""

import numpy as np
from numpy.typing import NDArray

from firefront.core.messages import Submit
from firefront.engine import output, step_inputs
from firefront.engine.sequence import Sequence


def sequence_of(
    submit: Submit,
    prompt: NDArray[np.int32],
    *,
    max_tokens: int,
    arrival: int,
    arrived_s: float,
    seed: int,
    eos_ids: frozenset[int],
    tokenizer: output.TokensToText | None,
    vocab_size: int,
) -> Sequence:
    """The sequence of `submit`, with all that sampler and detokeniser need of it."""
    sampling = submit.sampling
    stop_ids = frozenset(sampling.stop_token_ids)
    if not sampling.ignore_eos:
        stop_ids |= eos_ids
    sequence = Sequence(
        submit,
        prompt,
        arrival=arrival,
        arrived_s=arrived_s,
        max_tokens=max_tokens,
        stop_ids=stop_ids,
        text=None if tokenizer is None else output.OutputText(tokenizer, sampling),
    )
    step_inputs.prepare(sequence, seed)
    if sampling.allowed_token_ids is not None:
        sequence.mask = step_inputs.mask_of(sampling.allowed_token_ids, vocab_size)
        sequence.is_mask_fixed = True
    if sampling.prompt_logprobs is not None:
        sequence.prompt_logprobs = [output.unscored(int(prompt[0]), tokenizer)]
    return sequence
