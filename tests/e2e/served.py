"""A server with the real engine, and what is asked of it: for tests that need a real model."""

import sys
from typing import Any

from tests.gateway.live import Live

ASK = [{"role": "user", "content": "Name the capital of France."}]
SCORED = "The sky is blue because"


class Served(Live):
    """The real server and the real engine instead of the fake, which computes with one thread:
    another file's tests run beside it, and threads that meet would wait for a core."""

    def command(self) -> list[str]:
        serve = [sys.executable, "-m", "firefront", "serve", "--port", "0", "--threads", "1"]
        return serve + [f"--model={model}" for model in self.models]

    def chat(self, **fields: Any) -> Any:
        fields = {"messages": ASK, "temperature": 0, "max_tokens": 32, **fields}
        return self.sdk().chat.completions.create(model=self.name, **fields)

    def complete(self, prompt: Any = SCORED, **fields: Any) -> Any:
        fields = {"temperature": 0, "max_tokens": 8, **fields}
        return self.sdk().completions.create(model=self.name, prompt=prompt, **fields)

    @property
    def name(self) -> str:
        return self.sdk().models.list().data[0].id


def said(answer: Any) -> str:
    return answer.choices[0].message.content


def joined(stream: Any) -> tuple[str, str | None]:
    """A streamed chat's text and why it ended."""
    text, finish = "", None
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish
