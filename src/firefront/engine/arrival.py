"""From a Submit that passed admission to the Sequence that runs: endings, text, sampler row."""

import numpy as np
from numpy.typing import NDArray

from firefront.core.messages import Submit
from firefront.engine import output, step_inputs
from firefront.engine.grammar import Guide, mask_of
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
    guide: Guide | None,
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
        sequence.masks = mask_of(sampling.allowed_token_ids, vocab_size).reshape(1, -1)
    if guide is not None:
        guide.restrict(
            allowed=None if sequence.masks is None else sequence.masks[0],
            goes_on=sampling.ignore_eos,
            one_by_one=sampling.logprobs is not None,
        )
        sequence.guide, sequence.masks = guide, guide.masks
    if sampling.prompt_logprobs is not None:
        sequence.prompt_logprobs = [output.unscored(int(prompt[0]), tokenizer)]
    return sequence
