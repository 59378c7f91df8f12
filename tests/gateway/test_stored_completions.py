"""Stored completions through the openai SDK with strict validation."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai._models import construct_type
from openai.types.chat import ChatCompletion

from firefront.store.store import Store
from tests.gateway.live import Live


@pytest.fixture
def store(live: Live) -> Iterator[Store]:
    store = Store.open(None, live.home)
    yield store
    for completion in store.completions.list("local", limit=1000).items:
        store.completions.delete("local", completion.id)
    store.close()


@pytest.fixture
def strict(live: Live) -> openai.OpenAI:
    return live.sdk(_strict_response_validation=True)


@pytest.fixture
def keep(live: Live) -> Callable[..., ChatCompletion]:
    """Run a chat that is kept."""

    def keep(**fields: Any) -> ChatCompletion:
        request = {
            "model": "fake",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 4,
            "store": True,
            **fields,
        }
        answer = live.http().post("/v1/chat/completions", json=request).json()
        completion = construct_type(type_=ChatCompletion, value=answer)
        assert isinstance(completion, ChatCompletion)
        return completion

    return keep


Keep = Callable[..., ChatCompletion]


def test_the_life_of_a_stored_completion(strict: openai.OpenAI, keep: Keep) -> None:
    stored = strict.chat.completions
    given = keep(metadata={"team": "a"}, temperature=0.5)
    found = stored.retrieve(given.id)
    assert found.choices == given.choices and found.usage == given.usage
    assert found.object == "chat.completion" and found.model == "fake"
    assert found.metadata == {"team": "a"}
    assert found.model_extra is not None and found.model_extra["temperature"] == 0.5
    changed = stored.update(given.id, metadata={"team": "b", "run": "1"})
    assert changed.metadata == {"team": "b", "run": "1"}
    assert [c.id for c in stored.list(metadata={"team": "b"})] == [given.id]
    cleared = stored.update(given.id, metadata=None)
    assert cleared.metadata == {}
    deleted = stored.delete(given.id)
    assert deleted.deleted and deleted.id == given.id
    for call in (stored.retrieve, stored.delete, stored.messages.list):
        with pytest.raises(openai.NotFoundError):
            call(given.id)
    with pytest.raises(openai.NotFoundError):
        stored.update(given.id, metadata={})


def test_a_stream_is_kept_as_the_whole_answer_would_be(live: Live, store: Store) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "SAY hello STOP"}], "n": 2}
    ids = []
    for stream in (False, True):
        answer = live.http().post(
            "/v1/chat/completions", json={**body, "store": True, "stream": stream}
        )
        assert answer.status_code == 200
        ids.append(re.findall(r"chatcmpl-[0-9a-f]+", answer.text)[0])
    whole, streamed = (store.completions.get("local", id) for id in ids)
    assert whole.answer["choices"] == streamed.answer["choices"]
    assert len(whole.answer["choices"]) == 2
    assert whole.answer["usage"] == streamed.answer["usage"]
    assert whole.request == {**body, "store": True, "stream": False}


def test_only_what_was_asked_to_be_stored_is(live: Live, store: Store) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "STOP"}]}
    for more in ({}, {"store": False}, {"store": None}, {"metadata": {"a": "b"}}):
        assert live.http().post("/v1/chat/completions", json={**body, **more}).status_code == 200
    refused = live.http().post(
        "/v1/chat/completions", json={**body, "store": True, "metadata": {"k" * 65: ""}}
    )
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "metadata"
    assert store.completions.list("local").items == []


def test_pages_and_filters(strict: openai.OpenAI, keep: Keep) -> None:
    models = ["fake", "fake", "some/other", "fake", "some/other"]
    ids = [keep(model=model, metadata={"n": str(n % 2)}).id for n, model in enumerate(models)]
    stored = strict.chat.completions
    assert [c.id for c in stored.list()] == ids
    assert [c.id for c in stored.list(limit=2, order="desc")] == ids[::-1]
    assert [c.id for c in stored.list(model="some/other")] == [ids[2], ids[4]]
    assert [c.id for c in stored.list(metadata={"n": "1"}, limit=1)] == [ids[1], ids[3]]
    assert [c.id for c in stored.list(metadata={"n": "0"}, model="fake")] == [ids[0]]
    page = stored.list(limit=2, after=ids[1])
    assert [c.id for c in page.data] == ids[2:4] and page.has_more


def test_messages(strict: openai.OpenAI, live: Live, keep: Keep) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    given = keep(
        messages=[
            {"role": "assistant", "content": "first"},
            {"role": "assistant", "content": parts},
            {"role": "assistant", "content": "last"},
        ]
    )
    stored = strict.chat.completions.messages
    found = list(stored.list(given.id, limit=2))
    assert [m.content for m in found] == ["first", "one two", "last"]
    assert len({m.id for m in found}) == 3
    assert found[0].content_parts is None and found[1].content_parts is not None
    assert [p.model_dump(exclude_unset=True) for p in found[1].content_parts] == parts
    assert [m.id for m in stored.list(given.id, order="desc")] == [m.id for m in found][::-1]
    assert stored.list(given.id, after=found[1].id).data == found[2:]
    assert live.http().get(
        f"/v1/chat/completions/{given.id}/messages?after=x"
    ).json()["error"]["param"] == "after"


def test_messages_keep_the_ids_they_came_with(live: Live, keep: Keep) -> None:
    said = [("one", "my-id"), ("two", None), ("three", "twice"), ("four", "twice")]
    messages = [{"role": "user", "content": text, "id": id} for text, id in said]
    given = keep(messages=messages)
    listed = live.sdk().chat.completions.messages.list(given.id, order="asc")
    ids = [message.id for message in listed]
    assert ids == ["my-id", *(f"{given.id}-{i}" for i in (1, 2, 3))]
    after = live.sdk().chat.completions.messages.list(given.id, after="my-id", order="asc")
    assert [message.id for message in after] == ids[1:]


def test_messages_keep_the_role_they_were_sent_with(live: Live, keep: Keep) -> None:
    """Where the SDK's type knows only assistants, the service it was made for says user too."""
    given = keep(messages=[{"role": "user", "content": "hi", "name": "ann"}])
    (message,) = live.sdk().chat.completions.messages.list(given.id)
    assert message.to_dict() == {
        "id": f"{given.id}-0",
        "role": "user",
        "content": "hi",
        "content_parts": None,
        "name": "ann",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "metadata: is required"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "at most 16 pairs"),
        ({"metadata": {"k" * 65: ""}}, "64 characters"),
        ({"metadata": {"": ""}}, "64 characters"),
        ({"metadata": {"k": "v" * 513}}, "512 characters"),
        ({"metadata": {"k": "\x00"}}, "NUL"),
    ],
)
def test_bad_metadata_are_named(
    live: Live, keep: Keep, body: dict[str, Any], message: str
) -> None:
    given = keep(metadata={"old": "1"})
    answer = live.http().post(f"/v1/chat/completions/{given.id}", json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]
    kept = live.http().get(f"/v1/chat/completions/{given.id}").json()
    assert kept["metadata"] == {"old": "1"}


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=101", 400, "limit"),
        ("limit=1e1", 400, "limit"),
        ("order=newest", 400, "order"),
        ("after=none", 404, "after"),
        ("model=%00", 400, "model"),
        ("metadata[%00]=x", 400, "metadata"),
        ("metadata[x]=%00", 400, "metadata"),
        ("&".join(f"metadata[{n}]=x" for n in range(17)), 400, "metadata"),
    ],
)
def test_bad_queries_are_named(live: Live, query: str, status: int, param: str) -> None:
    answer = live.http().get(f"/v1/chat/completions?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_ids_of_nothing_are_404(live: Live) -> None:
    for id in ("none", "%00", "x" * 1000, "%2e%2e", "a'b"):
        path = f"/v1/chat/completions/{id}"
        assert live.http().get(path).status_code == 404
        assert live.http().delete(path).status_code == 404
        assert live.http().get(path + "/messages").status_code == 404
        assert live.http().post(path, json={"metadata": {}}).status_code == 404
