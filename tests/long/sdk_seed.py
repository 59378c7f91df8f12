"""A pytest plugin for `sdk_suites`: before each test the server's store has what the test names."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from firefront.core.errors import NotFoundError
from firefront.store.store import Store

ACCOUNT = "local"
FILES = ("file_id", "after")
COMPLETIONS = ("completion_id", "after")
RESPONSES = ("response_id", "resp_677efb5139a88190b512bc3fef8e535d", "resp_123")
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@pytest.fixture(scope="session")
def _store() -> Iterator[Store]:
    store = Store.open()  # in FIREFRONT_HOME, beside the server
    yield store
    store.close()


@pytest.fixture(autouse=True)
def _seeded(_store: Store) -> None:
    for wanted, table, add in (
        (FILES, _store.files, _add_file),
        (COMPLETIONS, _store.completions, _add_completion),
        (RESPONSES, _store.responses, _add_response),
    ):
        for id in wanted:
            try:
                table.get(ACCOUNT, id)
            except NotFoundError:
                add(_store, id)


def _add_file(store: Store, id: str) -> None:
    content = store.files.incoming()
    try:
        content.write(b"Example data")
        content.finish()
        store.files.create(ACCOUNT, content, filename="a.txt", purpose="assistants", id=id)
    finally:
        content.discard()


def _add_completion(store: Store, id: str) -> None:
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    store.completions.create(
        ACCOUNT,
        id=id,
        created_at=int(time.time()),
        model="model",
        priority=0,
        metadata={},
        request={"messages": [{"role": "assistant", "content": "Hi"}]},
        answer={
            "id": id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "model",
            "choices": [choice],
            "usage": _USAGE,
        },
    )


def _add_response(store: Store, id: str) -> None:
    text: dict[str, Any] = {"type": "input_text", "text": "Hi"}
    item = {"type": "message", "role": "user", "status": "completed", "content": [text]}
    store.responses.create(
        ACCOUNT,
        id=id,
        created_at=int(time.time()),
        model="model",
        priority=0,
        status="completed",
        previous_response_id=None,
        metadata={},
        input_items=[{**item, "id": "after"}, {**item, "id": "msg_1"}],
        response={
            "id": id,
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "background": True,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": "model",
            "output": [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        },
    )
