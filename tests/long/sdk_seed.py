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
CONVERSATIONS = ("conv_123",)
ITEMS = ("msg_abc", "after")
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}

_ITEM: dict[str, Any] = {
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Hi"}],
}


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
        (CONVERSATIONS, _store.conversations, _add_conversation),
    ):
        for id in wanted:
            try:
                table.get(ACCOUNT, id)
            except NotFoundError:
                add(_store, id)
    for conversation_id in CONVERSATIONS:
        there = {item["id"] for item in _store.conversations.items(ACCOUNT, conversation_id).items}
        missing = [{**_ITEM, "id": id} for id in ITEMS if id not in there]
        _store.conversations.append(ACCOUNT, conversation_id, missing)


def _add_conversation(store: Store, id: str) -> None:
    store.conversations.create(ACCOUNT, id=id, created_at=int(time.time()), metadata={})


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
        request={"messages": [{"role": "assistant", "content": "Hi", "id": "after"}]},
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
    store.responses.create(
        ACCOUNT,
        id=id,
        created_at=int(time.time()),
        model="model",
        priority=0,
        status="completed",
        previous_response_id=None,
        metadata={},
        input_items=[{**_ITEM, "id": "after"}, {**_ITEM, "id": "msg_1"}],
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
