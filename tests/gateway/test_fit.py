"""Prompt and max_tokens against the context: refused with the numbers, or shortened where asked."""

import pytest

from firefront.core.errors import ContextLengthError
from firefront.core.sampling import SamplingParams
from firefront.gateway.render import fit


def fitted(num_prompt: int, wanted: int | None, *, shortens: bool) -> int | None:
    sampling = SamplingParams(max_tokens=wanted)
    return fit(num_prompt, sampling, 100, "messages", "max_tokens", shortens=shortens).max_tokens


@pytest.mark.parametrize(
    ("num_prompt", "wanted", "shortens", "given"),
    [
        (90, 10, False, 10),
        (90, None, False, 10),
        (100, 0, False, 0),
        (90, 10, True, 10),
        (90, 11, True, 10),
        (99, 5000, True, 1),
        (100, 0, True, 0),
    ],
)
def test_what_fits(num_prompt: int, wanted: int | None, shortens: bool, given: int) -> None:
    assert fitted(num_prompt, wanted, shortens=shortens) == given


@pytest.mark.parametrize(
    ("num_prompt", "wanted", "shortens", "param"),
    [
        (90, 11, False, "max_tokens"),
        (100, None, False, "messages"),
        (100, 1, True, "messages"),  # no room for even one
        (101, 0, True, "messages"),
    ],
)
def test_what_does_not(num_prompt: int, wanted: int | None, shortens: bool, param: str) -> None:
    with pytest.raises(ContextLengthError) as caught:
        fitted(num_prompt, wanted, shortens=shortens)
    assert caught.value.param == param
