"""A `Vocabulary` from a folder in Hugging Face layout: tokenizer.json and the files around it.

Reads tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json and
chat_template.jinja where present. Nothing named in them is imported or run: `auto_map` and
`tokenizer_class` are not followed.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

from firefront.core.errors import ModelFileError
from firefront.text.vocab import (
    AddedToken,
    Vocabulary,
    byte_level_bytes,
    end_ids,
    plain_bytes,
    sentencepiece_bytes,
)

MAX_CONFIG_BYTES = 8 << 20
MAX_TOKENIZER_BYTES = 128 << 20
_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


def vocabulary_from_folder(folder: Path) -> Vocabulary:
    """Build the vocabulary of the model in `folder`; ModelFileError names the file at fault."""
    file = folder / "tokenizer.json"
    backend = _backend(file)
    config = _json(folder / "tokenizer_config.json")
    added = tuple(
        AddedToken(i, t.content, t.special, t.lstrip, t.rstrip, t.single_word)
        for i, t in sorted(backend.get_added_tokens_decoder().items())
        if t.content
    )
    special_texts = _special_texts(config, _json(folder / "special_tokens_map.json"))
    bos_id = _token_id(backend, special_texts.get("bos_token"))
    eos_id = _token_id(backend, special_texts.get("eos_token"))
    prefix_ids, suffix_ids = _frame(backend, config, bos_id, eos_id)
    spell, strips_space = _spelling(backend, file)
    return Vocabulary(
        source=str(folder),
        backend=backend,
        continuation=_continuation(backend),
        token_bytes=_token_bytes(backend, added, spell),
        added=added,
        bos_id=bos_id,
        eos_ids=_eos_ids(folder, backend, added, eos_id),
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
        strips_space=strips_space,
        special_texts=special_texts,
        templates=_templates(folder, config),
    )


def _backend(file: Path) -> Backend:
    try:
        if file.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ModelFileError(file, "size", f"larger than {MAX_TOKENIZER_BYTES} bytes")
        backend = Backend.from_buffer(file.read_bytes())
    except OSError as error:
        raise ModelFileError(file, "file", f"cannot be read: {error.strerror}") from None
    except ModelFileError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise ModelFileError(file, "json", f"is not a tokenizer: {error}") from None
    backend.no_padding()
    backend.no_truncation()
    return backend


def _json(file: Path) -> dict[str, Any]:
    """The object in `file`, {} if there is no such file."""
    if not file.is_file():
        return {}
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelFileError(file, "size", f"larger than {MAX_CONFIG_BYTES} bytes")
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(file, "json", str(error)) from None
    if not isinstance(value, dict):
        raise ModelFileError(file, "json", "is not an object")
    return value


def _special_texts(config: dict[str, Any], special_map: dict[str, Any]) -> dict[str, str]:
    texts = {}
    for name in _SPECIAL_NAMES:
        value = config.get(name) or special_map.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            texts[name] = value
    return texts


def _token_id(backend: Backend, text: str | None) -> int | None:
    return None if text is None else backend.token_to_id(text)


def _frame(
    backend: Backend, config: dict[str, Any], bos_id: int | None, eos_id: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the file puts before and after a text. The config's flags win, as in transformers."""
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            prefix, suffix = tuple(framed[:start]), tuple(framed[start + len(plain) :])
            break
    if isinstance(flag := config.get("add_bos_token"), bool):
        prefix = (bos_id,) if flag and bos_id is not None else ()
    if isinstance(flag := config.get("add_eos_token"), bool):
        suffix = (eos_id,) if flag and eos_id is not None else ()
    return prefix, suffix


def _spelling(backend: Backend, file: Path) -> tuple[Any, bool]:
    """How this vocabulary spells bytes, and whether decoding drops the first space."""
    decoder = backend.decoder
    if decoder is None:
        return plain_bytes, False
    state = json.loads(decoder.__getstate__())
    steps = state.get("decoders", [state])
    kinds = [step["type"] for step in steps]
    if "ByteLevel" in kinds:
        return byte_level_bytes, False
    if "Metaspace" in kinds:
        step = steps[kinds.index("Metaspace")]
        return sentencepiece_bytes, step.get("prepend_scheme") != "never"
    if set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return sentencepiece_bytes, "Strip" in kinds
    raise ModelFileError(file, "decoder", f"{'+'.join(kinds)} is not supported")


def _continuation(backend: Backend) -> Backend:
    """`backend` for text in mid-document: Metaspace's space before the first word is left out."""
    pre_tokenizer = backend.pre_tokenizer
    if pre_tokenizer is None:
        return backend
    state = json.loads(pre_tokenizer.__getstate__())
    steps = state.get("pretokenizers", [state])
    marked = [i for i, step in enumerate(steps) if step.get("prepend_scheme") == "first"]
    if not marked:
        return backend
    for i in marked:
        steps[i]["prepend_scheme"] = "never"
    document = json.loads(backend.to_str())
    document["pre_tokenizer"] = state
    other = Backend.from_str(json.dumps(document))
    assert isinstance(other.pre_tokenizer, pre_tokenizers.PreTokenizer)
    return other


def _token_bytes(backend: Backend, added: tuple[AddedToken, ...], spell: Any) -> list[bytes]:
    vocab = backend.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocab.values(), default=-1) + 1)
    for token, token_id in vocab.items():
        table[token_id] = spell(token)
    for entry in added:  # SentencePiece's decoder takes those that are text like all others
        spell_added = sentencepiece_bytes if spell is sentencepiece_bytes else plain_bytes
        table[entry.id] = (plain_bytes if entry.control else spell_added)(entry.text)
    return table


def _eos_ids(
    folder: Path, backend: Backend, added: tuple[AddedToken, ...], eos_id: int | None
) -> frozenset[int]:
    ids = set() if eos_id is None else {eos_id}
    size = backend.get_vocab_size(with_added_tokens=True)
    file = folder / "generation_config.json"
    generation = _json(file)
    listed = generation.get("eos_token_id", _json(folder / "config.json").get("eos_token_id"))
    for value in listed if isinstance(listed, list) else [listed]:
        if value is None:
            continue
        if not isinstance(value, int) or not 0 <= value < size:
            raise ModelFileError(file, "eos_token_id", f"{value!r} is not a token")
        ids.add(value)
    # Without a generation config nobody has listed them, so go by the tokens' names.
    return frozenset(ids if "eos_token_id" in generation else ids | end_ids(added))


def _templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    templates: dict[str, str] = {}
    value = config.get("chat_template")
    if isinstance(value, str):
        templates["default"] = value
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict) and isinstance(entry.get("template"), str):
                templates[str(entry.get("name"))] = entry["template"]
    file = folder / "chat_template.jinja"
    if file.is_file():
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelFileError(file, "size", f"larger than {MAX_CONFIG_BYTES} bytes")
        try:
            templates["default"] = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(file, "file", str(error)) from None
    return templates
