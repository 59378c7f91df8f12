"""Awkward text, for tests that compare tokenizers."""

import random

AWKWARD = [
    "",
    " ",
    "a",
    "Hello, world!",
    "  two leading, two trailing  ",
    "tabs\tand\nnewlines\r\n\r\n\n\n  \n mixed \t\t end\n",
    " " * 1, " " * 2, " " * 3, " " * 17, " " * 300 + "x", "x" + " " * 300,
    "\n" * 50, "\t" * 9 + "deep", "\r\r\r", "\u00a0\u2003\u3000 odd spaces\u200b",
    "1 12 123 1234 12345 1234567890123456789012345678901234567890",
    "3.14159e-10 0x7fff 1,000,000.00 ½ ² Ⅷ ٣٤٥ 五十",
    "it's I'M we'll they'Ve you'd 'tis ''quoted'' don\u2019t",
    "camelCaseWord PascalCase SCREAMING_SNAKE kebab-case XMLHttpRequest iOS",
    "def f(x: int) -> str:\n    return f'{x!r}'  # ok\n\n\nclass A:\n\tpass\n",
    "#include <stdio.h>\nint main(){for(;;){a[i]+=b->c;}}//%$@!~`^&*|\\",
    "<html><body class='x'>&nbsp;</body></html> {{ jinja }} {% raw %}",
    '{"key": [1, 2.5, null, true], "s": "\\u00e9\\n"}',
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ☺️ ❤️‍🔥 🤷🏿‍♀️",
    "日本語のテキスト、中文字符，한국어 텍스트。ｆｕｌｌｗｉｄｔｈ ﾊﾝｶｸ",
    "e\u0301 n\u0303 a\u030a\u0323 Z\u0351\u036b\u0343\u036a\u0302 \u1e9b\u0323 ﬁ ﬀ Å Ω",
    "שלום עולם مرحبا بالعالم \u202eRTL\u202c \u200fmark",
    "Привет, мир! Ελληνικά Հայերեն ქართული हिन्दी ไทย தமிழ் አማርኛ",
    "\x00NUL\x00 \x01\x02\x03 \x1b[31mred\x1b[0m \x7f\x80\x9f \ufeffBOM \ufffd \uffff",
    "\U0001f9ff\U00020000\U0010fffd\ue000\uf8ff",
    "a" * 2000, "ab" * 1000, "Ä" * 500, "漢" * 500, "!" * 700, "aA" * 300, "=" * 81,
    "antidisestablishmentarianism" * 20,
    "http://example.com/a/b?c=d&e=f#g me@example.org C:\\Windows\\System32",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "<|im_end", "|im_end|>", "<|im_end|><|im_end|>", "<|IM_END|>", "< |im_end|>", "<|im_end |>",
    "<s></s><unk><pad>[INST][/INST]<0x0A><0xFF>▁▁<bos><eos>",
    "<tool_call>\n{}\n</tool_call>", "<repo_name>x<file_sep>", "<think>\n\n</think>",
]  # fmt: skip

_ALPHABET = (
    "abcXYZ 019\n\t\r'\"<|>_-.,!?/\\éßñ\u0301\u0308日本한Привет👍🏽\u200d\u202eשם\u00a0\x00ġĠ▁"
)


def random_texts(count: int, seed: int = 7) -> list[str]:
    """Reproducible soup of the characters that tokenizers stumble over."""
    source = random.Random(seed)
    return ["".join(source.choices(_ALPHABET, k=source.randrange(1, 80))) for _ in range(count)]
