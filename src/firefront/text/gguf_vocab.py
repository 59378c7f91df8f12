"""A `Vocabulary` from the metadata of a GGUF file: byte-level BPE ("gpt2") and SentencePiece BPE
("llama").

Takes a plain dict of GGUF keys, so it knows nothing of the file format. Every index is checked
before use; what a file must not say is a ModelFileError naming the key.
"""

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken as BackendToken
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers

from firefront.core.errors import ModelFileError
from firefront.text.pretokenizers import BYTE_LEVEL_STYLES, ByteLevelStyle
from firefront.text.vocab import (
    BYTE_CHARS,
    SPACE_MARK,
    AddedToken,
    Vocabulary,
    byte_level_table,
    end_ids,
    plain_bytes,
    sentencepiece_bytes,
)

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_PREFIX = "tokenizer.ggml."
_SPECIAL_KEYS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # spelled so in the format
}
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


class _Metadata:
    """The tokenizer's keys, checked as they are read."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values, self.source = values, source

    def error(self, key: str, problem: str) -> ModelFileError:
        return ModelFileError(self.source, _PREFIX + key, problem)

    def array(
        self, key: str, kind: type | tuple[type, ...], length: int | None = None
    ) -> list[Any]:
        value = self.values.get(_PREFIX + key)
        if value is None:
            raise self.error(key, "missing; the file has no usable tokenizer")
        items = value.tolist() if hasattr(value, "tolist") else list(value)
        if not all(issubclass(found, kind) for found in set(map(type, items))):
            raise self.error(key, "holds a value of the wrong type")
        if length is not None and len(items) != length:
            raise self.error(key, f"has {len(items)} entries for {length} tokens")
        return items

    def has(self, key: str) -> bool:
        return self.values.get(_PREFIX + key) is not None

    def token_id(self, key: str, num_tokens: int) -> int | None:
        value = self.values.get(_PREFIX + key)
        if value is None:
            return None
        if not 0 <= int(value) < num_tokens:
            raise self.error(key, f"{value} is not a token of the vocabulary of {num_tokens}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(_PREFIX + key)
        return default if value is None else bool(value)


def vocabulary_from_gguf(values: Mapping[str, Any], source: str) -> Vocabulary:
    """Build the vocabulary from GGUF metadata `values`; `source` names the file in errors."""
    meta = _Metadata(values, source)
    tokens: list[str] = meta.array("tokens", str)
    if not tokens:
        raise meta.error("tokens", "is empty")
    types: list[int] = (
        meta.array("token_type", int, len(tokens))
        if meta.has("token_type")
        else [_NORMAL] * len(tokens)
    )
    model, ids = values.get(_PREFIX + "model"), _ids(tokens)
    if model == "gpt2":
        style = _style(meta)
        backend = _byte_level(meta, ids, style)
        table, add_bos, strips_space = byte_level_table(tokens), style.add_bos, False
    elif model == "llama":
        strips_space = meta.flag("add_space_prefix", True)
        backend = _sentencepiece(meta, tokens, ids, types, strips_space)
        table, add_bos = list(map(sentencepiece_bytes, tokens)), True
    else:
        raise meta.error("model", f"{model!r} is not supported; known: gpt2, llama")

    added = _added_tokens(tokens, ids, types, byte_level=model == "gpt2")
    _register(backend, added, normalized_spaces=model == "llama" and not strips_space)
    bos_id = meta.token_id("bos_token_id", len(tokens))
    eos_id = meta.token_id("eos_token_id", len(tokens))
    listed = {meta.token_id(key, len(tokens)) for key in _END_KEYS} - {None}
    # Markup is spelled as it is, but SentencePiece's own tokens for runs of spaces are not.
    for token in added:
        if token.control or model == "gpt2":
            table[token.id] = plain_bytes(token.text)
    return Vocabulary(
        source=source,
        backend=backend,
        continuation=backend,
        token_bytes=table,
        added=added,
        bos_id=bos_id,
        eos_ids=frozenset({i for i in listed if i is not None} | end_ids(added)),
        prefix_ids=(bos_id,) if meta.flag("add_bos_token", add_bos) and bos_id is not None else (),
        suffix_ids=(eos_id,) if meta.flag("add_eos_token", False) and eos_id is not None else (),
        strips_space=strips_space,
        special_texts=_special_texts(meta, tokens),
        templates=_templates(values),
    )


def _style(meta: _Metadata) -> ByteLevelStyle:
    name = meta.values.get(_PREFIX + "pre", "default")
    if not isinstance(name, str) or name not in BYTE_LEVEL_STYLES:
        known = ", ".join(sorted(BYTE_LEVEL_STYLES))
        raise meta.error("pre", f"pre-tokenizer {name!r} is not known; known: {known}")
    return BYTE_LEVEL_STYLES[name]


def _byte_level(meta: _Metadata, vocab: dict[str, int], style: ByteLevelStyle) -> Backend:
    lines: list[str] = meta.array("merges", str)
    try:
        with _no_collection():
            merges: list[Any] = [tuple(line.split(" ", 1)) for line in lines]
            model = models.BPE(vocab, merges, ignore_merges=style.whole_words)
    except Exception as error:  # the library checks each merge, but does not say which it is
        raise meta.error("merges", _bad_merge(lines, vocab) or str(error)) from None
    backend = Backend(model)
    if (normalizer := style.normalizer()) is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = style.pre_tokenizer()
    return backend


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Hundreds of thousands of new tuples and no garbage: looking for some would take longer than
    making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _bad_merge(lines: Sequence[str], vocab: Mapping[str, int]) -> str | None:
    for rank, line in enumerate(lines):
        left, _, right = line.partition(" ")
        if left not in vocab or right not in vocab or left + right not in vocab:
            return f"merge {rank} ({line!r}) is not of tokens in the vocabulary"
    return None


def _sentencepiece(
    meta: _Metadata,
    tokens: list[str],
    vocab: dict[str, int],
    types: list[int],
    space_prefix: bool,
) -> Backend:
    scores = meta.array("scores", (int, float), len(tokens))
    # Only text may be merged: a control token must never come out of a user's characters.
    pieces = {
        token: score
        for token, kind, score in zip(tokens, types, scores, strict=True)
        if kind in (_NORMAL, _USER_DEFINED)
    }
    unknown_id = meta.token_id("unknown_token_id", len(tokens))
    if unknown_id is None and _UNKNOWN in types:
        unknown_id = types.index(_UNKNOWN)
    backend = Backend(
        models.BPE(
            vocab,
            merges_from_scores(pieces, vocab),
            unk_token=None if unknown_id is None else tokens[unknown_id],
            fuse_unk=True,
            byte_fallback=_BYTE in types,
        )
    )
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", SPACE_MARK)]
    if space_prefix:
        steps.insert(0, normalizers.Prepend(SPACE_MARK))
    backend.normalizer = normalizers.Sequence(steps)
    return backend


def merges_from_scores(
    pieces: Mapping[str, float], ids: Mapping[str, int]
) -> list[tuple[str, str]]:
    """The merges, best first, that make BPE join what SentencePiece joins.

    SentencePiece joins the neighbours whose concatenation has the best score; every way to cut a
    piece in two pieces is therefore a merge of that piece's rank.
    """
    merges: list[tuple[float, int, int, str, str]] = []
    for piece, score in pieces.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                merges.append((-score, -cut, ids[piece], left, right))
    merges.sort()
    return [(left, right) for *_, left, right in merges]


def _ids(tokens: Sequence[str]) -> dict[str, int]:
    """Token to id; of duplicates the first, as a decoder of the file would find it."""
    return dict(zip(reversed(tokens), range(len(tokens) - 1, -1, -1), strict=True))


def _added_tokens(
    tokens: list[str], vocab: Mapping[str, int], types: list[int], *, byte_level: bool
) -> tuple[AddedToken, ...]:
    added = []
    marked = [i for i, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED)]
    for token_id in marked:
        token, kind = tokens[token_id], types[token_id]
        if not token or vocab[token] != token_id:
            continue
        # Converters mark ordinary byte tokens as user-defined at times; those are plain vocabulary.
        if byte_level and kind == _USER_DEFINED and len(token) == 1 and token in BYTE_CHARS:
            continue
        added.append(AddedToken(token_id, token, control=kind == _CONTROL))
    return tuple(added)


def _register(backend: Backend, added: tuple[AddedToken, ...], *, normalized_spaces: bool) -> None:
    """`normalized_spaces`: a token with spaces or SentencePiece's marks is found where a text has
    either."""
    for control in (True, False):
        backend.add_tokens(
            [
                BackendToken(
                    token.text,
                    special=control,
                    normalized=normalized_spaces
                    and not {" ", SPACE_MARK}.isdisjoint(token.text),
                )
                for token in added
                if token.control == control
            ]
        )


def _special_texts(meta: _Metadata, tokens: list[str]) -> dict[str, str]:
    ids = {name: meta.token_id(key, len(tokens)) for name, key in _SPECIAL_KEYS.items()}
    return {name: tokens[i] for name, i in ids.items() if i is not None}


def _templates(values: Mapping[str, Any]) -> dict[str, str]:
    templates = {}
    for key, value in values.items():
        if key == "tokenizer.chat_template" and isinstance(value, str):
            templates["default"] = value
        elif key.startswith("tokenizer.chat_template.") and isinstance(value, str):
            templates[key.removeprefix("tokenizer.chat_template.")] = value
    return templates
