"""Files to tune on, and jobs of the shared server."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.gateway.live import Live


@pytest.fixture
def strict(live: Live) -> openai.OpenAI:
    return live.sdk(_strict_response_validation=True)


def chat_rows(num: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"question {number}"},
                {"role": "assistant", "content": f"answer {number % 3}"},
            ]
        }
        for number in range(num)
    ]


def lines_of(rows: list[Any]) -> bytes:
    return b"".join(
        (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows
    )


@pytest.fixture
def upload(sdk: openai.OpenAI) -> Callable[..., str]:
    """Rows, or lines, as a file of the server's; its id."""

    def upload(rows: list[Any] | None = None, purpose: Any = "fine-tune") -> str:
        content = lines_of(chat_rows() if rows is None else rows)
        return sdk.files.create(file=("rows.jsonl", content), purpose=purpose).id

    return upload
