"""Needles in a haystack: does a model find one fact among others like it in a long text?

Pure: texts in, conversations and their right answers out. Several keys are hidden, one is asked
for, so a model that only finds "a code" fails (the multi-key task of RULER, arXiv 2404.06654).
"""

import random
import re
from collections.abc import Sequence
from typing import Any

import msgspec

_COLOURS = "amber azure black brown coral cyan green grey ivory lilac pink red silver teal white"
_THINGS = "anchor barrel candle drum engine falcon garden harbour island kettle ladder mirror"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_QUESTION = (
    "Some codes are hidden in the text below. Remember them.\n\n{text}\n\n"
    "What is the code of the {key}? Answer with the code and nothing else."
)
CODE_DIGITS = 7


class Needle(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `depth`: where the asked-for fact is, 0 at the start, 1 at the end."""

    num_chars: int
    depth: float
    messages: list[dict[str, Any]]
    code: str


def needles(
    filler: str,
    lengths: Sequence[int],
    *,
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    num_keys: int = 4,
    seed: int = 0,
) -> list[Needle]:
    """A question for each length (characters of text, repeated where the filler is short) and
    depth. Facts stand between sentences; the other `num_keys - 1` anywhere."""
    rng = random.Random(seed)
    sentences = [part for part in _SENTENCE_END.split(filler) if part.strip()]
    assert sentences, "a filler text with words"
    return [
        _needle(rng, sentences, length, depth, num_keys) for length in lengths for depth in depths
    ]


def _needle(
    rng: random.Random, sentences: list[str], length: int, depth: float, num_keys: int
) -> Needle:
    names = [f"{colour} {thing}" for colour in _COLOURS.split() for thing in _THINGS.split()]
    keys = rng.sample(names, num_keys)
    first = 10 ** (CODE_DIGITS - 1)
    codes = [str(code) for code in rng.sample(range(first, 10 * first), num_keys)]
    facts = [
        f"The code of the {key} is {code}." for key, code in zip(keys, codes, strict=True)
    ]
    hay = _hay(rng, sentences, length - sum(len(fact) + 1 for fact in facts))
    places = [round(depth * len(hay)), *(rng.randint(0, len(hay)) for _ in facts[1:])]
    # From the back, so that what goes in does not move what is still to come.
    for fact, place in sorted(zip(facts, places, strict=True), key=lambda pair: -pair[1]):
        hay.insert(place, fact)
    text = " ".join(hay)
    question = _QUESTION.format(text=text, key=keys[0])
    messages = [{"role": "user", "content": question}]
    return Needle(num_chars=len(text), depth=depth, messages=messages, code=codes[0])


def _hay(rng: random.Random, sentences: list[str], length: int) -> list[str]:
    """Sentences from a random place on, at most `length` characters with their spaces."""
    at, hay = rng.randrange(len(sentences)), list[str]()
    while (length := length - len(sentences[at % len(sentences)]) - 1) >= 0:
        hay.append(sentences[at % len(sentences)])
        at += 1
    return hay


def is_found(needle: Needle, answer: str) -> bool:
    """Whether the answer has the right code and no other."""
    return set(re.findall(rf"(?<!\d)\d{{{CODE_DIGITS}}}(?!\d)", answer)) == {needle.code}
