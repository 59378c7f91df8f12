"""How byte-level vocabularies cut text before merging: GGUF's `tokenizer.ggml.pre` names.

Owns the table from a name to split pattern, normaliser and defaults. Knows nothing of files.
Invariant: for a name listed here the result equals the model's published tokenizer.json.
"""

from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_SYMBOLS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"

# One digit at a time (Qwen 2), and up to three (Llama 3).
_QWEN2 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _SYMBOLS + _TAIL
_LLAMA3 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _SYMBOLS + _TAIL
# Qwen 3.5 keeps combining marks with their letters.
_QWEN35 = (
    _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _TAIL
)
# Words split where lower case meets upper case (Mistral's tekken, GPT-4o).
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_HEAD = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = (
    rf"{_HEAD}{_UPPER}*{_LOWER}+|{_HEAD}{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _TAIL
)
_GPT4O = (
    rf"{_HEAD}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_HEAD}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _TAIL
)


@dataclass(frozen=True, slots=True)
class ByteLevelStyle:
    """One way to prepare text for byte-level BPE.

    `pattern=None` is GPT-2's own split; `digits` first cuts every digit off. `whole_words` takes a
    word found in the vocabulary as it is, without merging. `add_bos` holds when a file is silent.
    """

    pattern: str | None = None
    digits: bool = False
    nfc: bool = False
    whole_words: bool = False
    add_bos: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        if self.pattern is not None:
            return pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        if not self.digits:
            return gpt2
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.nfc else None


_GPT2_STYLE = ByteLevelStyle()
_DIGITS_STYLE = ByteLevelStyle(digits=True)
_QWEN2_STYLE = ByteLevelStyle(pattern=_QWEN2, nfc=True)
_LLAMA3_STYLE = ByteLevelStyle(pattern=_LLAMA3, whole_words=True, add_bos=True)
_GPT4O_STYLE = ByteLevelStyle(pattern=_GPT4O)

BYTE_LEVEL_STYLES: dict[str, ByteLevelStyle] = {
    "default": _GPT2_STYLE,
    "gpt-2": _GPT2_STYLE,
    "phi-2": _GPT2_STYLE,
    "mpt": _GPT2_STYLE,
    "olmo": ByteLevelStyle(nfc=True),
    "smollm": _DIGITS_STYLE,
    "starcoder": _DIGITS_STYLE,
    "refact": _DIGITS_STYLE,
    "codeshell": _DIGITS_STYLE,
    "command-r": ByteLevelStyle(digits=True, nfc=True),
    "qwen2": _QWEN2_STYLE,
    "deepseek-r1-qwen": ByteLevelStyle(pattern=_QWEN2),
    "stablelm2": ByteLevelStyle(pattern=_QWEN2),
    "qwen35": ByteLevelStyle(pattern=_QWEN35, nfc=True),
    "llama-bpe": _LLAMA3_STYLE,
    "llama3": _LLAMA3_STYLE,
    "llama-v3": _LLAMA3_STYLE,
    "falcon3": ByteLevelStyle(pattern=_LLAMA3, whole_words=True),
    "dbrx": ByteLevelStyle(pattern=_LLAMA3),
    "smaug-bpe": ByteLevelStyle(pattern=_LLAMA3, whole_words=True),
    "tekken": ByteLevelStyle(pattern=_TEKKEN, whole_words=True, add_bos=True),
    "gpt-4o": _GPT4O_STYLE,
    "llama4": ByteLevelStyle(pattern=_GPT4O, add_bos=True),
}
