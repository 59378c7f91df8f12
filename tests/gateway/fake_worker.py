"""A job's process without a model: the fake tokenizer, with turns that end."""

import sys
from collections.abc import Sequence
from typing import Any

from fakes import BOS, EOS, FakeTokenizer

from firefront.tuning.jobs.work import ModelFacts, Parts
from firefront.tuning.jobs.worker import main


class TurnTokenizer(FakeTokenizer):
    """An assistant's turn ends with the token that ends texts, every other with a line."""

    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Any = None,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        **kwargs: Any,
    ) -> list[int]:
        token_ids = [BOS]
        for message in messages:
            token_ids += f"{message['role']}: {message['content']}".encode()
            token_ids.append(EOS if message["role"] == "assistant" else ord("\n"))
        return token_ids + (list(b"assistant: ") if add_generation_prompt else [])


if __name__ == "__main__":
    parts = Parts(
        load_tokenizer=lambda path: TurnTokenizer(),
        facts=lambda path: ModelFacts(max_len=512, width=64),
    )
    sys.exit(main(parts))
