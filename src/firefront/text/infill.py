"""Filling in the middle: how models trained for it frame what comes before and after the gap.

The frames are those of the models' own cards: prefix, suffix, then the middle is generated.
"""

from collections.abc import Callable, Iterable

from firefront.core.errors import RequestError
from firefront.text.vocab import AddedToken

_FRAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen Coder, Codestral-style
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SmolLM
    ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"),  # DeepSeek Coder
)


def infill_ids(
    added: Iterable[AddedToken], encode: Callable[[str], list[int]], prefix: str, suffix: str
) -> list[int]:
    """Token ids after which the model writes what is between `prefix` and `suffix`.

    Raises RequestError if the vocabulary has no tokens for it.
    """
    ids = {token.text: token.id for token in added}
    for before, after, middle in _FRAMES:
        if before in ids and after in ids and middle in ids:
            head, tail = encode(prefix), encode(suffix)
            return [ids[before], *head, ids[after], *tail, ids[middle]]
    raise RequestError(
        "suffix: this model was not made to fill in the middle; leave it out", param="suffix"
    )
