"""Responses that were kept: read, gone on from, referred to, listed, deleted."""

import contextlib
import json
import socket
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.gateway.live import Live, wait_for
from tests.gateway.responses.oracle import judged, last_response, parse_frames

URL = "/v1/responses"
MakeLive = Callable[..., Live]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_kept_is_what_was_sent(strict: openai.OpenAI, stream: bool) -> None:
    fields: dict[str, Any] = {"model": "fake", "input": "STOP", "metadata": {"a": "b"}}
    if stream:
        _, answer = last_response(strict.responses.create(**fields, stream=True))
    else:
        answer = strict.responses.create(**fields)
    assert strict.responses.retrieve(answer.id) == answer
    assert strict.responses.retrieve(
        answer.id, include=["message.output_text.logprobs"]
    ).output_text  # fmt: skip


def test_store_false_is_not_kept(strict: openai.OpenAI) -> None:
    answer = strict.responses.create(model="fake", input="STOP", store=False)
    with pytest.raises(openai.NotFoundError) as caught:
        strict.responses.retrieve(answer.id)
    assert answer.id in caught.value.message


def test_delete(live: Live, strict: openai.OpenAI) -> None:
    first = strict.responses.create(model="fake", input="STOP")
    second = strict.responses.create(model="fake", input="STOP", previous_response_id=first.id)
    deleted = live.http().delete(f"{URL}/{first.id}")
    assert deleted.json() == {"id": first.id, "object": "response", "deleted": True}
    for call in (strict.responses.retrieve, strict.responses.delete, strict.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            call(first.id)
    with pytest.raises(openai.BadRequestError, match=f"{first.id}.*{second.id}") as caught:
        strict.responses.create(model="fake", input="x", previous_response_id=second.id)
    assert caught.value.code == "previous_response_not_found"


BAD_IDS = ["resp_1", "x" * 500, "a b", "%00", "%ff", "..%2f..", "resp_%F0%9F"]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_ids_that_open_nothing(live: Live, bad: str) -> None:
    http = live.http()
    answers = [
        http.get(f"{URL}/{bad}"),
        http.get(f"{URL}/{bad}?stream=true"),
        http.delete(f"{URL}/{bad}"),
        http.post(f"{URL}/{bad}/cancel"),
        http.get(f"{URL}/{bad}/input_items"),
    ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_chain_tells_all_that_was_said(strict: openai.OpenAI) -> None:
    create = strict.responses.create
    first = create(model="fake", instructions="be odd", input="one STOP")
    second = create(model="fake", input="two STOP", previous_response_id=first.id)
    third = create(
        model="fake", instructions="be even", input="three STOP", previous_response_id=second.id
    )
    assert third.previous_response_id == second.id
    messages: Any = [
        {"role": "system", "content": "be even"},  # of the earlier ones none
        {"role": "user", "content": "one STOP"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "two STOP"},
        {"role": "assistant", "content": second.output_text},
        {"role": "user", "content": "three STOP"},
    ]
    chat = strict.chat.completions.create(model="fake", messages=messages)
    assert chat.choices[0].message.content == third.output_text
    assert chat.usage.prompt_tokens == third.usage.input_tokens
    alone = create(model="fake", instructions="be even", input=messages[1:])
    assert alone.output_text == third.output_text
    counted = strict.responses.input_tokens.count(
        model="fake", instructions="be even", input="three STOP", previous_response_id=second.id
    )
    assert counted.input_tokens == third.usage.input_tokens


def test_without_input_it_goes_on(strict: openai.OpenAI) -> None:
    first = strict.responses.create(model="fake", input="STOP")
    again = strict.responses.create(model="fake", previous_response_id=first.id)
    assert again.usage.input_tokens > first.usage.input_tokens


def test_items_sent_back_and_references_are_the_same(strict: openai.OpenAI) -> None:
    create = strict.responses.create
    first = create(model="fake", input="one STOP")
    asked: Any = {"role": "user", "content": "one STOP"}
    then: Any = {"role": "user", "content": "two STOP"}
    chained = create(model="fake", input="two STOP", previous_response_id=first.id)
    sent = create(model="fake", input=[asked, *[i.to_dict() for i in first.output], then])
    [listed] = strict.responses.input_items.list(first.id).data
    named: Any = [
        {"type": "item_reference", "id": listed.id},
        {"id": first.output[0].id},
        then,
    ]
    referred = create(model="fake", input=named)
    assert sent.output_text == referred.output_text == chained.output_text
    for response in (sent, referred):
        items = strict.responses.input_items.list(response.id, order="asc").data
        assert [item.type for item in items] == ["message"] * 3
        assert items[1].id == first.output[0].id
    again = create(model="fake", input=[{"type": "item_reference", "id": items[2].id}])
    assert again.output_text == create(model="fake", input="two STOP").output_text


def test_references_that_open_nothing(strict: openai.OpenAI) -> None:
    for name in ("msg_x", "rs_" + "0" * 32 + "_0", "\x00", "x" * 300):
        with pytest.raises(openai.BadRequestError) as caught:
            strict.responses.create(model="fake", input=[{"type": "item_reference", "id": name}])
        assert caught.value.param == "input[0].id"


def test_input_items_in_pages(live: Live, strict: openai.OpenAI) -> None:
    call: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result: Any = {"type": "function_call_output", "call_id": "c", "output": "found"}
    thought: Any = {
        "type": "reasoning", "id": "rs_mine", "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }  # fmt: skip
    texts: Any = [
        {"role": "user", "content": "u"},
        {"role": "developer", "content": [{"type": "input_text", "text": "d"}]},
        {"role": "assistant", "content": "a"},
    ]
    answer = strict.responses.create(
        model="fake", input=[*texts, thought, call, result], max_output_tokens=1
    )
    page = strict.responses.input_items.list(answer.id, order="asc", limit=100)
    assert [item.type for item in page.data] == [
        "message", "message", "message", "reasoning", "function_call", "function_call_output"
    ]  # fmt: skip
    assert page.data[0].content[0].text == "u"
    assert page.data[3].id == "rs_mine"
    assert page.data[5].output == "found"
    ids = [item.id for item in page.data]
    assert len(set(ids)) == 6
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        pages = strict.responses.input_items.list(answer.id, order=order, limit=2)
        assert len(pages.data) == 2
        assert [item.id for item in pages] == expected
    raw = live.http().get(f"{URL}/{answer.id}/input_items?limit=2&after={ids[4]}").json()
    assert (raw["first_id"], raw["last_id"], raw["has_more"]) == (ids[3], ids[2], True)
    assert raw["object"] == "list"
    last = live.http().get(f"{URL}/{answer.id}/input_items?after={ids[0]}").json()
    assert (last["data"], last["first_id"], last["has_more"]) == ([], None, False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("input_items?limit=101", "limit"),
        ("input_items?limit=x", "limit"),
        ("input_items?limit=%C2%B2", "limit"),
        ("input_items?order=up", "order"),
        ("input_items?after=msg_none", "after"),
        ("?stream=true&starting_after=-1", "starting_after"),
        ("?stream=true&starting_after=5", "starting_after"),
        ("?stream=maybe", "stream"),
    ],
)
def test_bad_queries(live: Live, query: str, param: str) -> None:
    answer = live.http().post(URL, json={"model": "fake", "input": "STOP"}).json()
    path = f"{URL}/{answer['id']}"
    refused = live.http().get(path + query if query[0] == "?" else f"{path}/{query}")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_a_stream_can_be_told_again(live: Live, strict: openai.OpenAI) -> None:
    events, answer = last_response(
        strict.responses.create(model="fake", input="STOP", stream=True)
    )
    _, again = last_response(strict.responses.retrieve(answer.id, stream=True))
    assert again == answer
    rest = list(strict.responses.retrieve(answer.id, stream=True, starting_after=2))
    assert [event.sequence_number for event in rest][0] == 3
    told = live.http().get(f"{URL}/{answer.id}?stream=true").content
    assert judged(parse_frames(told)).output_text == answer.output_text
    with strict.responses.stream(response_id=answer.id) as stream:
        assert stream.get_final_response().output_text == answer.output_text


def test_one_who_leaves_leaves_it_cancelled(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STEP_S=0.02)
    with live.sdk().responses.create(model="fake", input="x", stream=True) as stream:
        response_id = next(iter(stream)).response.id
    wait_for(lambda: live.num_events("abort") == 1)
    wait_for(lambda: live.http().get(f"{URL}/{response_id}").status_code == 200)
    kept = live.sdk(_strict_response_validation=True).responses.retrieve(response_id)
    assert kept.status == "cancelled"
    assert kept.output[0].status == "incomplete"
    assert kept.usage.output_tokens >= 1
    told = live.http().get(f"{URL}/{response_id}?stream=true").content
    assert parse_frames(told)[-1]["type"] == "response.incomplete"
    more = live.sdk().responses.create(
        model="fake", input="STOP", previous_response_id=response_id
    )
    assert more.usage.input_tokens > kept.usage.input_tokens


def test_one_who_leaves_at_any_point_breaks_nothing(live: Live) -> None:
    parts, logged = urlsplit(live.url), len(live.raw_log)
    for size in range(12):
        raw = json.dumps({"model": "fake", "input": "x STOP", "stream": True}).encode()
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
            connection.sendall(
                b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\n"
                b"content-length: %d\r\n\r\n" % len(raw) + raw
            )
            if size:
                connection.recv(size * 400)
    wait_for(lambda: live.metric("firefront_num_requests_running", model_name="fake") == 0)
    wait_for(lambda: live.metric("firefront_replica_sequences_out") == 0)
    assert "Traceback" not in live.raw_log[logged:]


def test_a_store_that_fails_is_said(make_live: MakeLive) -> None:
    live = make_live("fake")
    body: dict[str, Any] = {"model": "fake", "input": "STOP"}
    assert live.http().post(URL, json=body).status_code == 200
    with contextlib.closing(sqlite3.connect(live.home / "firefront.db")) as database:
        database.execute("drop table responses")
    assert live.http().post(URL, json=body).status_code == 500
    assert live.http().post(URL, json={**body, "store": False}).status_code == 200
    events = parse_frames(live.http().post(URL, json={**body, "stream": True}).content)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert live.http().post(URL, json={**body, "background": True}).status_code == 500
    assert live.metric("firefront_num_requests_running", model_name="fake") == 0
