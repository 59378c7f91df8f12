"""A model's tokenizer as files of a folder in Hugging Face layout.

A folder's own files are copied; from a GGUF they are written. Invariant: what is written reads back
as the same tokenizer, or is refused.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, processors

from firefront.core.errors import ModelFileError
from firefront.text.gguf_vocab import vocabulary_from_gguf
from firefront.text.tokenizer import Tokenizer, load_tokenizer
from firefront.text.vocab import Vocabulary
from firefront.weights.checkpoint import Checkpoint

TEMPLATE = "chat_template.jinja"
_COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "generation_config.json", "tokenizer.model", "vocab.json", "merges.txt", TEMPLATE,
)  # fmt: skip
_PROBE = "Hello, world!  It's 12.5 % of naïve 東京 🎉\n\tdef f(x): return x\r\n"


def write_tokenizer(checkpoint: Checkpoint, folder: Path, template: str | None = None) -> None:
    """Write the model's tokenizer beside its weights. `template`: a chat template in the place of
    its own."""
    if checkpoint.kind == "hf":
        for name in _COPIED:
            if (checkpoint.path / name).is_file():
                shutil.copyfile(checkpoint.path / name, folder / name)
    else:
        _write(vocabulary_from_gguf(checkpoint.metadata, str(checkpoint.path)), folder)
    if template is not None:
        (folder / TEMPLATE).write_text(template, "utf-8")
    if checkpoint.kind == "gguf":
        vocabulary = vocabulary_from_gguf(checkpoint.metadata, str(checkpoint.path))
        _check_same(Tokenizer(vocabulary), load_tokenizer(folder), checkpoint.path)


def _write(vocabulary: Vocabulary, folder: Path) -> None:
    backend = vocabulary.backend
    _complete(backend, vocabulary)
    backend.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **vocabulary.special_texts,
    }
    others = {name: text for name, text in vocabulary.templates.items() if name != "default"}
    if others:
        config["chat_template"] = [
            {"name": name, "template": text} for name, text in vocabulary.templates.items()
        ]
    elif "default" in vocabulary.templates:
        (folder / TEMPLATE).write_text(vocabulary.templates["default"], "utf-8")
    _write_json(folder / "tokenizer_config.json", config)
    generation = {"bos_token_id": vocabulary.bos_id, "eos_token_id": sorted(vocabulary.eos_ids)}
    _write_json(folder / "generation_config.json", generation)


def _complete(backend: Backend, vocabulary: Vocabulary) -> None:
    """What files say and GGUF's keys imply: how ids become text, and what frames a text."""
    if "ByteLevel" in repr(backend.pre_tokenizer):
        backend.decoder = decoders.ByteLevel()
    else:
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        if vocabulary.strips_space:
            steps.append(decoders.Strip(" ", 1, 0))
        backend.decoder = decoders.Sequence(steps)
    frame = [*vocabulary.prefix_ids, *vocabulary.suffix_ids]
    if frame:
        spelled = {token_id: backend.id_to_token(token_id) for token_id in frame}
        backend.post_processor = processors.TemplateProcessing(
            single=[
                *(spelled[token_id] for token_id in vocabulary.prefix_ids),
                "$A",
                *(spelled[token_id] for token_id in vocabulary.suffix_ids),
            ],
            special_tokens=[(text, token_id) for token_id, text in spelled.items()],
        )


def _check_same(one: Tokenizer, other: Tokenizer, file: object) -> None:
    probes = (_PROBE, *_PROBE.split(" "))
    is_same = (
        one.differs_from(other) is None
        and one.eos_ids == other.eos_ids
        and all(one.encode(text) == other.encode(text) for text in probes)
        and all(one.encode(text, False) == other.encode(text, False) for text in probes)
    )
    if not is_same:
        raise ModelFileError(
            file,
            "tokenizer",
            "has no form in tokenizer.json that says the same; merge it with --format gguf",
        )


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
