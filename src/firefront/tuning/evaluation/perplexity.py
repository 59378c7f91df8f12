"""Perplexity: how surprised a model is by a text that it did not write.

Pure but for reading the file. Texts are scored in pieces of about 2,000 characters that end with a
line, each from its beginning, so that figures of different models are of the same text. They are
for comparing, and higher than those of a window that slides over the whole.
"""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

from firefront.core.errors import RequestError
from firefront.tuning.evaluation.ask import TextScore

PIECE_CHARS = 2000
MAX_PIECES = 100
MAX_TEXT_BYTES = 64 << 20


def read_text(path: Path) -> str:
    """A text file, also a .gz; RequestError if it is none."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise RequestError(f"{path}: has over {MAX_TEXT_BYTES >> 20} MiB; give a part of it")
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is not UTF-8 at byte {error.start}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    if not text.strip():
        raise RequestError(f"{path}: has no text")
    return text


def pieces(text: str, limit: int = MAX_PIECES) -> list[str]:
    """At most `limit` pieces, spread evenly over the text."""
    found: list[str] = []
    piece = ""
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), PIECE_CHARS):
            part = line[start : start + PIECE_CHARS]
            if piece.strip() and len(piece) + len(part) > PIECE_CHARS:
                found.append(piece)
                piece = ""
            piece += part
    if piece.strip() or not found:
        found.append(piece)
    if len(found) <= limit:
        return found
    return [found[at * len(found) // limit] for at in range(limit)]


def perplexity(scores: Sequence[TextScore]) -> float:
    """exp of the mean negative log-probability of a token, over all texts."""
    num_tokens = sum(score.num_tokens for score in scores)
    if not num_tokens:
        raise RequestError("perplexity: there is nothing to score: a text needs two tokens")
    return math.exp(min(700.0, -sum(score.logprob for score in scores) / num_tokens))


def bits_per_byte(scores: Sequence[TextScore]) -> float:
    """The same, so that models of different vocabularies can be compared."""
    num_bytes = max(1, sum(score.num_bytes for score in scores))
    return -sum(score.logprob for score in scores) / num_bytes / math.log(2)
