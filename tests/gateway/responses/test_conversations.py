"""Conversations: begun, gone on with in responses of every kind, looked at, deleted."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.gateway.live import Live, wait_for
from tests.gateway.responses.oracle import last_response
from tests.gateway.test_errors import error_of

URL = "/v1/conversations"
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "5"}


def say(text: str) -> str:
    return f"SAY{json.dumps(text)}"


def texts(client: openai.OpenAI, conversation_id: str) -> list[str]:
    """What was said, oldest first."""
    items = client.conversations.items.list(conversation_id, order="asc")
    return [item.content[0].text for item in items if item.type == "message"]


def num_tokens(client: openai.OpenAI, **fields: Any) -> int:
    return client.responses.input_tokens.count(model="fake", **fields).input_tokens


def test_a_conversation_from_begin_to_end(strict: openai.OpenAI) -> None:
    begun = strict.conversations.create(
        items=[{"role": "developer", "content": "Be kind."}], metadata={"a": "b"}
    )
    assert begun.id.startswith("conv_") and begun.metadata == {"a": "b"}
    assert strict.conversations.retrieve(begun.id) == begun
    added = strict.conversations.items.create(
        begun.id, items=[{"role": "user", "content": "5?"}, CALL, RESULT]
    )
    assert [item.type for item in added.data] == [
        "message", "function_call", "function_call_output"
    ]  # fmt: skip
    listed = list(strict.conversations.items.list(begun.id, limit=2))
    assert listed[:3] == added.data[::-1] and listed[3].role == "developer"
    one = strict.conversations.items.retrieve(added.data[1].id, conversation_id=begun.id)
    assert one == added.data[1]
    changed = strict.conversations.update(begun.id, metadata={"c": "d"})
    assert changed.metadata == {"c": "d"} and changed.created_at == begun.created_at
    assert strict.conversations.items.delete(one.id, conversation_id=begun.id) == changed
    assert len(list(strict.conversations.items.list(begun.id))) == 3
    gone = strict.conversations.delete(begun.id)
    assert gone.deleted and gone.id == begun.id
    with pytest.raises(openai.NotFoundError):
        strict.conversations.retrieve(begun.id)
    empty = strict.conversations.create()
    assert empty.metadata == {} and list(strict.conversations.items.list(empty.id)) == []


@pytest.mark.parametrize("kind", ["whole", "streamed", "background", "not stored"])
def test_a_response_goes_on_with_it_and_adds_to_it(strict: openai.OpenAI, kind: str) -> None:
    system = {"role": "system", "content": "Be kind."}
    begun = strict.conversations.create(items=[system])
    fields: dict[str, Any] = {"model": "fake", "conversation": begun.id}
    first = strict.responses.create(**fields, input=say("one"), store=kind != "not stored")
    assert first.conversation is not None and first.conversation.id == begun.id
    match kind:
        case "streamed":
            _, second = last_response(
                strict.responses.create(**fields, input=say("two"), stream=True)
            )
        case "background":
            begun_response = strict.responses.create(**fields, input=say("two"), background=True)

            def ended() -> Any:
                found = strict.responses.retrieve(begun_response.id)
                return found if found.status == "completed" else None

            second = wait_for(ended)
        case _:
            second = strict.responses.create(**fields, input=say("two"))
    assert second.output_text == "two"
    assert texts(strict, begun.id) == ["Be kind.", say("one"), "one", say("two"), "two"]
    # What the second began with is what one would have sent oneself.
    history = [
        system,
        {"role": "user", "content": say("one")},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": say("two")},
    ]
    assert second.usage is not None
    assert second.usage.input_tokens == num_tokens(strict, input=history)
    by_object = num_tokens(strict, input="x", conversation={"id": begun.id})
    assert by_object > second.usage.input_tokens
    assert len(texts(strict, begun.id)) == 5  # counting adds nothing


def test_what_failed_or_was_cancelled_adds_nothing(strict: openai.OpenAI) -> None:
    begun = strict.conversations.create()
    fields: dict[str, Any] = {"model": "fake", "conversation": begun.id}
    with pytest.raises(openai.APIStatusError):
        strict.responses.create(**fields, input="BOOM")
    slow = strict.responses.create(**fields, input="SLOWLY", background=True)
    assert strict.responses.cancel(slow.id).status == "cancelled"
    assert texts(strict, begun.id) == []
    cut = strict.responses.create(**fields, input=say("a long answer"), max_output_tokens=2)
    assert cut.status == "incomplete"
    assert texts(strict, begun.id) == [say("a long answer"), cut.output_text]


def test_two_at_once_lose_nothing_and_stay_together(strict: openai.OpenAI) -> None:
    begun = strict.conversations.create()

    def ask(number: int) -> None:
        strict.responses.create(
            model="fake", conversation=begun.id, input=say(str(number)), store=False
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(16)))
    said = texts(strict, begun.id)
    assert sorted(said[1::2], key=int) == [str(number) for number in range(16)]
    assert said[0::2] == [say(answer) for answer in said[1::2]]


def test_references(strict: openai.OpenAI) -> None:
    begun = strict.conversations.create(items=[{"role": "user", "content": "again"}])
    (item,) = strict.conversations.items.list(begun.id)
    answer = strict.responses.create(
        model="fake",
        conversation=begun.id,
        input=[{"type": "item_reference", "id": item.id}, {"role": "user", "content": say("x")}],
    )
    assert answer.output_text == "x"
    assert texts(strict, begun.id) == ["again", "again", say("x"), "x"]
    reference = {"type": "item_reference", "id": answer.output[0].id}
    other = strict.conversations.create(items=[reference])
    assert texts(strict, other.id) == ["x"]


def test_a_result_whose_call_was_deleted(strict: openai.OpenAI) -> None:
    begun = strict.conversations.create(items=[{"role": "user", "content": "5?"}, CALL])
    (result,) = strict.conversations.items.create(begun.id, items=[RESULT]).data
    call = next(i for i in strict.conversations.items.list(begun.id) if i.type == "function_call")
    fields: dict[str, Any] = {"model": "fake", "conversation": begun.id, "input": say("x")}
    assert strict.responses.create(**fields).output_text == "x"
    strict.conversations.items.delete(call.id, conversation_id=begun.id)
    with pytest.raises(openai.BadRequestError, match=result.id) as caught:
        strict.responses.create(**fields)
    assert caught.value.param == "conversation"
    strict.conversations.items.delete(result.id, conversation_id=begun.id)
    assert strict.responses.create(**fields).output_text == "x"


def test_more_than_a_conversation_may_have(live: Live) -> None:
    client = live.sdk()
    begun = client.conversations.create()
    many = [{"role": "user", "content": ""}] * 10_001
    with pytest.raises(openai.BadRequestError, match="10000") as caught:
        client.responses.create(
            model="fake", conversation=begun.id, input=many, truncation="auto"
        )
    assert caught.value.param == "input"
    assert texts(client, begun.id) == []


def test_deleted_while_a_response_runs(live: Live, strict: openai.OpenAI) -> None:
    begun = strict.conversations.create()
    slow = strict.responses.create(
        model="fake", conversation=begun.id, input="SLOWLY STOP", background=True
    )
    strict.conversations.delete(begun.id)
    answer = wait_for(
        lambda: (r := strict.responses.retrieve(slow.id)).status == "completed" and r
    )
    assert answer.output_text
    assert live.http().get(f"{URL}/{begun.id}/items").status_code == 404


TOO_MANY = [{"role": "user", "content": "x"}] * 21


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "", {"items": TOO_MANY}, 400, "items"),
        ("POST", "", {"items": [{"type": "mcp_call"}]}, 400, "items[0].type"),
        ("POST", "", {"items": [{"type": "item_reference", "id": "x"}]}, 400, "items[0].id"),
        ("POST", "", {"items": "x"}, 400, "items"),
        ("POST", "", {"metadata": {"a": "x" * 513}}, 400, "metadata"),
        ("POST", "/ID/items", {}, 400, "items"),
        ("POST", "/ID/items", {"items": []}, 400, "items"),
        ("POST", "/ID/items", {"items": TOO_MANY}, 400, "items"),
        ("POST", "/ID", {}, 400, "metadata"),
        ("GET", "/ID/items?limit=101", None, 400, "limit"),
        ("GET", "/ID/items?order=up", None, 400, "order"),
        ("POST", "", {"items": [RESULT, CALL]}, 400, "items[0].call_id"),
        ("POST", "/ID/items", {"items": [RESULT]}, 400, "items[0].call_id"),
        ("GET", "/ID/items?after=none", None, 404, "after"),
        ("GET", "/ID/items?after=a%20b", None, 404, "after"),
        ("GET", "/ID/items/none", None, 404, "item_id"),
        ("DELETE", "/ID/items/%00", None, 404, "item_id"),
        ("GET", "/conv_none", None, 404, "id"),
        ("GET", "/conv_none/items", None, 404, "id"),
        ("POST", "/conv_none/items", {"items": TOO_MANY[:1]}, 404, "id"),
        ("DELETE", "/x%20y", None, 404, "id"),
    ],
)
def test_refusals(
    live: Live, method: str, path: str, body: Any, status: int, param: str
) -> None:
    own_id = live.sdk().conversations.create().id
    answer = live.http().request(method, URL + path.replace("ID", own_id), json=body)
    assert answer.status_code == status, answer.text
    assert error_of(answer)["param"] == param


def test_an_unknown_conversation_is_not_begun(live: Live) -> None:
    with pytest.raises(openai.NotFoundError, match="conv_none") as caught:
        live.sdk().responses.create(model="fake", input="x", conversation="conv_none")
    assert caught.value.param == "conversation"


