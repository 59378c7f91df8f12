"""Vocabularies from GGUF metadata and from folders: what is read, and what is refused."""

import gc
import json
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from firefront.core.errors import ModelFileError
from firefront.text.gguf_vocab import vocabulary_from_gguf
from firefront.text.pretokenizers import BYTE_LEVEL_STYLES
from firefront.text.tokenizer import Tokenizer, load_tokenizer
from firefront.text.vocab import byte_level_bytes, byte_level_table
from tests.text.corpus import AWKWARD, random_texts

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


def sentencepiece_metadata(**changes: Any) -> dict[str, Any]:
    """A small SentencePiece model: control, byte and letter pieces, and random longer ones."""
    source = random.Random(11)
    letters = list(string.ascii_lowercase[:6] + "▁é日<s>/|")
    pieces = dict.fromkeys(letters)
    while len(pieces) < 220:
        left, right = source.choice(list(pieces)), source.choice(list(pieces))
        if len(left + right) < 8 and "▁" not in right and left + right not in ("<s>", "</s>"):
            pieces[left + right] = None
    ordered = sorted(pieces, key=lambda piece: -len(piece))
    source.shuffle(ordered)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *ordered]
    types = [2, 3, 3, *[6] * 256, *[1] * len(ordered)]
    values = {
        "model": "llama",
        "tokens": tokens,
        "token_type": types,
        "scores": [0.0] * 259 + [-float(i) for i in range(len(ordered))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        **changes,
    }
    return {f"tokenizer.ggml.{k}": v for k, v in values.items() if v is not None}


def reference_sentencepiece(metadata: dict[str, Any], text: str) -> list[int]:
    """The algorithm by its definition: join the best-scoring neighbours, leftmost first."""
    tokens = metadata["tokenizer.ggml.tokens"]
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    ids = {token: i for i, token in enumerate(tokens)}
    normal = {
        t for t, k in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True) if k == 1
    }
    parts = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        joins = [
            (-scores[a + b], i)
            for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
            if a + b in normal
        ]
        if not joins:
            break
        _, i = min(joins)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    found: list[int] = []
    for part in parts:
        found += [ids[part]] if part in normal else [ids[f"<0x{b:02X}>"] for b in part.encode()]
    return found


def test_sentencepiece_joins_what_the_definition_joins() -> None:
    metadata = sentencepiece_metadata()
    tokenizer = Tokenizer(vocabulary_from_gguf(metadata, "model.gguf"))
    source = random.Random(5)
    texts = [
        "".join(source.choices("abcdef é日<s>/|👍\n", k=source.randrange(40))) for _ in range(400)
    ]
    for text in texts + AWKWARD[:30]:
        assert tokenizer.encode(text, add_special=False) == reference_sentencepiece(metadata, text)


def test_sentencepiece_round_trips_and_frames() -> None:
    tokenizer = Tokenizer(vocabulary_from_gguf(sentencepiece_metadata(), "model.gguf"))
    for text in [*AWKWARD, " leading", "   ", "<s></s>"]:
        ids = tokenizer.encode(text)
        assert ids[0] == tokenizer.bos_id == 1
        assert 1 not in ids[1:] and 2 not in ids
        kept = text.replace("▁", " ")  # SentencePiece cannot tell the two apart
        assert tokenizer.decode(ids) == kept
        stream = tokenizer.detokenizer()
        assert "".join(map(stream.push, ids)) + stream.flush() == kept
    word = tokenizer.encode("a", add_special=False)
    stream = tokenizer.detokenizer(continues=True)
    assert stream.push_all(word) + stream.flush() == " a"
    assert tokenizer.token_bytes(3 + 0xE6) == b"\xe6"
    assert tokenizer.encode("<s>a</s>", parse_special=True) == [1, *word, 2]


def test_space_prefix_and_frames_follow_the_file() -> None:
    metadata = sentencepiece_metadata(
        add_space_prefix=False, add_bos_token=False, add_eos_token=True
    )
    tokenizer = Tokenizer(vocabulary_from_gguf(metadata, "model.gguf"))
    ids = tokenizer.encode("a b")
    assert ids[-1] == 2 and ids[0] != 1
    assert tokenizer.decode(ids) == "a b"
    assert tokenizer.token_bytes(ids[0]).startswith(b"a")


def test_byte_level_styles_cover_every_byte() -> None:
    """Each style keeps the text (but NFC), on a vocabulary of the 256 bytes without merges."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokens = sorted(alphabet)
    assert sorted(byte_level_bytes(t) for t in tokens) == [bytes([b]) for b in range(256)]
    for name in BYTE_LEVEL_STYLES:
        metadata = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": name,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.merges": [],
        }
        tokenizer = Tokenizer(vocabulary_from_gguf(metadata, "model.gguf"))
        normalizer = BYTE_LEVEL_STYLES[name].normalizer()
        for text in AWKWARD + random_texts(50):
            kept = normalizer.normalize_str(text) if normalizer else text
            assert tokenizer.decode(tokenizer.encode(text)) == kept, name


def test_a_table_of_byte_level_tokens_is_that_of_each() -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    source = random.Random(5)
    tokens = ["".join(source.choices(alphabet, k=source.randrange(6))) for _ in range(300)]
    tokens += ["", "a b", "日本", "Ġ日", "\U0001f642", "\x00", "é", "\x7f\xad", "", "Ā"]
    assert byte_level_table(tokens) == [byte_level_bytes(token) for token in tokens]
    assert byte_level_table([]) == []


@pytest.mark.parametrize("merge", ["a", "a zz", "zz a", "b a", " a", "a  b", "a b c", ""])
def test_a_bad_merge_is_named(merge: str) -> None:
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a", "b", "ab", " "],
        "tokenizer.ggml.merges": ["a b", merge],
    }
    with pytest.raises(ModelFileError, match=rf"merge 1 \({re.escape(repr(merge))}\) is not of"):
        vocabulary_from_gguf(metadata, "model.gguf")
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gpt-2", "it's 2024  ok\n\n x", ["it", "'s", " 2024", " ", " ok", "\n\n", " x"]),
        ("smollm", "in 2024!!", ["in", " ", "2", "0", "2", "4", "!!"]),
        ("qwen2", "it'S 12\n\n x=y", ["it", "'S", " ", "1", "2", "\n\n", " x", "=y"]),
        ("llama-bpe", "12345 a_b\r\n", ["123", "45", " a", "_b", "\r\n"]),
        ("tekken", "camelCase XMLHttp 12/", ["camel", "Case", " XMLHttp", " ", "1", "2", "/"]),
        ("gpt-4o", "camelCase's 1234", ["camel", "Case's", " ", "123", "4"]),
    ],
)
def test_how_styles_split(name: str, text: str, words: list[str]) -> None:
    split = BYTE_LEVEL_STYLES[name].pre_tokenizer().pre_tokenize_str(text)
    assert [byte_level_bytes(word).decode() for word, _ in split] == words


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "bert"}, "model"),
        ({"tokens": None}, "tokens"),
        ({"tokens": []}, "tokens"),
        ({"tokens": [1, 2]}, "tokens"),
        ({"scores": None}, "scores"),
        ({"scores": [1.0]}, "scores"),
        ({"token_type": [1]}, "token_type"),
        ({"bos_token_id": 10**6}, "bos_token_id"),
        ({"eos_token_id": -1}, "eos_token_id"),
        ({"model": "gpt2", "pre": "no-such"}, "pre"),
        ({"model": "gpt2", "merges": None}, "merges"),
        ({"model": "gpt2", "merges": ["zz qq"]}, "merges"),
        ({"model": "gpt2", "merges": ["nospace"]}, "merges"),
    ],
)
def test_damaged_metadata_names_the_key(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelFileError, match=f"model.gguf: tokenizer.ggml.{field}") as caught:
        vocabulary_from_gguf(sentencepiece_metadata(**changes), "model.gguf")
    if field == "pre":
        assert "smollm" in str(caught.value)


# Folders.


def folder_with(tmp_path: Path, backend: Backend, **files: Any) -> Path:
    backend.save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def byte_level_backend() -> Backend:
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "<|im_start|>", AddedToken("<|im_end|>", rstrip=True)])
    backend.add_tokens(["<think>"])
    backend.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 256)])
    return backend


def metaspace_backend(scheme: str) -> Backend:
    metadata = sentencepiece_metadata()
    backend = vocabulary_from_gguf(metadata, "x").backend
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return backend


def test_a_folder_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = folder_with(
        tmp_path,
        byte_level_backend(),
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": {"__type": "AddedToken", "content": "<s>"},
            "eos_token": "<|im_end|>",
            "chat_template": CHATML,
        },
        generation_config={"eos_token_id": [258, 256]},
    )
    ours, oracle = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in AWKWARD + random_texts(50):
        assert ours.encode(text) == oracle(text, split_special_tokens=True)["input_ids"]
    assert (ours.bos_id, ours.eos_ids) == (256, {258, 256})
    assert ours.vocab_size == len(oracle) == 260
    assert 259 in ours.encode("x<think>y")
    messages = [{"role": "user", "content": "hi"}, {"role": "user", "content": "  there"}]
    expected = oracle.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert ours.encode_chat(messages) == expected


def test_flags_and_templates_of_a_folder(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        byte_level_backend(),
        tokenizer_config={
            "bos_token": "<s>",
            "add_bos_token": False,
            "chat_template": [
                {"name": "default", "template": "D"},
                {"name": "tool_use", "template": "T"},
            ],
        },
    )
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("a") == tokenizer.encode("a", add_special=False)
    assert tokenizer.eos_ids == {258}  # by its name, for lack of a generation config
    assert tokenizer.chat_template is not None
    question = [{"role": "user", "content": "q"}]
    assert tokenizer.chat_template.render(question) == "D"
    assert tokenizer.chat_template.render(question, [{"type": "function"}]) == "T"
    (folder / "chat_template.jinja").write_text("J")
    reread = load_tokenizer(folder).chat_template
    assert reread is not None and reread.render(question) == "J"


def test_without_a_template_chatml_stands_in_only_where_its_tokens_are(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, byte_level_backend(), tokenizer_config={"bos_token": "<s>"})
    ids = load_tokenizer(folder).encode_chat([{"role": "user", "content": "q<|im_end|>"}])
    assert ids[:2] == [256, 257]
    assert ids.count(258) == 1
    metadata = sentencepiece_metadata()
    with pytest.raises(ValueError, match="no chat template"):
        Tokenizer(vocabulary_from_gguf(metadata, "x")).encode_chat([{"role": "user"}])


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_metaspace_folders_equal_transformers(tmp_path: Path, scheme: str) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = folder_with(tmp_path, metaspace_backend(scheme))
    oracle = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ours = load_tokenizer(folder)
    for text in ["ab <s>cd</s> ef", "<s>ab", "a b", " a", "</s>", "a</s>b"]:
        expected = oracle(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special=False, parse_special=True) == expected, text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer", "{"), ("tokenizer", '{"model": 1}'), ("tokenizer_config", "[]"),
        ("tokenizer_config", "{"), ("generation_config", '{"eos_token_id": 99999}'),
        ("generation_config", '{"eos_token_id": ["x"]}'), ("tokenizer_config", "[" * 100_000),
    ],
)  # fmt: skip
def test_damaged_folders_name_the_file(tmp_path: Path, name: str, content: str) -> None:
    folder = folder_with(tmp_path, byte_level_backend())
    (folder / f"{name}.json").write_text(content)
    with pytest.raises(ModelFileError, match=f"{name}.json"):
        load_tokenizer(folder)


def test_code_named_in_a_folder_is_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "tokenization_evil.py").write_text(f"open({str(canary)!r}, 'w')")
    folder = folder_with(
        tmp_path,
        byte_level_backend(),
        tokenizer_config={"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}},
        config={"auto_map": {"AutoConfig": "tokenization_evil.Evil"}},
    )
    load_tokenizer(folder).encode("x")
    assert not canary.exists()


def test_a_hostile_split_pattern_is_an_error_not_a_crash(tmp_path: Path) -> None:
    backend = byte_level_backend()
    from tokenizers import Regex

    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("(a|a|b+)+$"), "isolated"), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer = load_tokenizer(folder_with(tmp_path, backend))
    with pytest.raises(ModelFileError, match="pre-tokenizer"):
        tokenizer.encode("a" * 40 + "!")


def test_long_text_is_cut_where_words_end_anyway(
    starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(starter_path)
    texts = ["".join(random_texts(300, seed=s)) for s in range(4)]
    whole = [tokenizer.encode(text) for text in texts]
    monkeypatch.setattr("firefront.text.plain.MAX_PIECE_CHARS", 500)
    monkeypatch.setattr("firefront.text.plain._CUT_WINDOW_CHARS", 400)
    assert [tokenizer.encode(text) for text in texts] == whole
    assert tokenizer.decode(tokenizer.encode("x" * 5000)) == "x" * 5000
