"""A tiny random model that can be talked with: tokens are bytes, turns are ChatML."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.tiny import tiny_model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUM_TOKENS = 258


def save_chat_model(folder: Path, seed: int = 0, **over: Any) -> Path:
    """A folder as Hugging Face has it: weights, tokenizer, template."""
    tiny_model("llama", seed, vocab_size=NUM_TOKENS, **over).save(folder)
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 257}))
    return folder


def colours(num: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a task that even a tiny model learns: a word of four says the answer."""
    import random

    rng = random.Random(seed)
    answers = {"sky": "blue", "grass": "green", "rose": "red", "sun": "gold"}
    rows = []
    for _ in range(num):
        word = rng.choice(sorted(answers))
        filler = "".join(rng.choice("abcdefghij") for _ in range(8))
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": f"{filler} {word}"},
                    {"role": "assistant", "content": answers[word]},
                ]
            }
        )
    return rows
