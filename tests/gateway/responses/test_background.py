"""Responses in the background: they go on without a client, are found, followed and cancelled."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from firefront.core.errors import ReplicaError
from firefront.gateway.responses.background import EventLog
from tests.gateway.live import Live, wait_for
from tests.gateway.responses.oracle import judged, parse_frames, same

URL = "/v1/responses"
MakeLive = Callable[..., Live]


@pytest.fixture
def slow(make_live: MakeLive) -> Live:
    """A server whose words take time."""
    return make_live("fake", FAKE_STEP_S=0.02)


def ended(sdk: openai.OpenAI, response_id: str) -> Any:
    def look() -> Any:
        found = sdk.responses.retrieve(response_id)
        return None if found.status in ("queued", "in_progress") else found

    return wait_for(look)


def test_it_goes_on_by_itself(slow: Live) -> None:
    sdk = slow.sdk(_strict_response_validation=True)
    text = "SLOWLY STOP"
    begun = sdk.responses.create(model="fake", input=text, background=True)
    assert (begun.status, begun.output, begun.usage) == ("in_progress", [], None)
    assert sdk.responses.retrieve(begun.id).status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        sdk.responses.create(model="fake", input="y", previous_response_id=begun.id)
    with pytest.raises(openai.BadRequestError, match="its events are not kept"):
        sdk.responses.retrieve(begun.id, stream=True)
    done = ended(sdk, begun.id)
    assert (done.status, done.background) == ("completed", True)
    plain = sdk.responses.create(model="fake", input=text)
    assert same(done.output) == same(plain.output)
    assert done.usage == plain.usage
    assert list(sdk.responses.retrieve(begun.id, stream=True))[-1].response == done
    more = sdk.responses.create(model="fake", input="STOP", previous_response_id=begun.id)
    assert more.status == "completed"


def test_a_stream_is_left_and_found_again(slow: Live) -> None:
    sdk = slow.sdk(_strict_response_validation=True)
    seen = []
    with sdk.responses.create(
        model="fake", input="x", max_output_tokens=30, background=True, stream=True
    ) as stream:
        for event in stream:
            seen.append(event)
            if len(seen) == 8:
                break
    response_id = seen[0].response.id
    rest = list(
        sdk.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
    )
    numbers = [event.sequence_number for event in [*seen, *rest]]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.incomplete"
    deltas = [e.delta for e in [*seen, *rest] if e.type == "response.output_text.delta"]
    assert "".join(deltas) == rest[-1].response.output_text
    assert len("".join(deltas)) == 30
    later = list(sdk.responses.retrieve(response_id, stream=True, starting_after=10))
    assert [event.to_dict() for event in later] == [
        event.to_dict() for event in [*seen, *rest][11:]
    ]
    assert ended(sdk, response_id) == rest[-1].response


def test_followers_see_the_same(slow: Live) -> None:
    body = {"model": "fake", "input": "x STOP", "background": True, "stream": True}
    first = slow.http().post(URL, json=body).content
    events = parse_frames(first)
    assert judged(events).status == "completed"
    response_id = events[0]["response"]["id"]
    assert slow.http().get(f"{URL}/{response_id}?stream=true").content == first


def test_cancel(slow: Live) -> None:
    sdk = slow.sdk(_strict_response_validation=True)
    begun = sdk.responses.create(model="fake", input="x", background=True)
    wait_for(lambda: slow.metric("firefront_replica_sequences_out") == 1)
    cancelled = sdk.responses.cancel(begun.id)
    assert cancelled.status == "cancelled"
    wait_for(lambda: slow.num_events("abort") == 1)
    assert sdk.responses.cancel(begun.id) == cancelled == sdk.responses.retrieve(begun.id)
    done = sdk.responses.create(model="fake", input="STOP", background=True)
    assert sdk.responses.cancel(ended(sdk, done.id).id).status == "completed"
    plain = sdk.responses.create(model="fake", input="STOP")
    with pytest.raises(openai.BadRequestError, match="background"):
        sdk.responses.cancel(plain.id)


def test_a_cancelled_stream_ends(slow: Live) -> None:
    sdk = slow.sdk()
    stream = sdk.responses.create(model="fake", input="x", background=True, stream=True)
    events = iter(stream)
    sdk.responses.cancel(next(events).response.id)
    last = list(events)[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled")


@pytest.mark.parametrize("stream", [False, True])
def test_delete_while_it_runs(slow: Live, stream: bool) -> None:
    begun: Any = slow.sdk().responses.create(
        model="fake", input="x", background=True, stream=stream
    )
    response_id = next(iter(begun)).response.id if stream else begun.id
    assert slow.http().delete(f"{URL}/{response_id}").status_code == 200
    wait_for(lambda: slow.num_events("abort") == 1)
    assert slow.http().get(f"{URL}/{response_id}").status_code == 404
    assert slow.http().get(f"{URL}/{response_id}?stream=true").status_code == 404
    assert "Traceback" not in slow.raw_log


def test_a_failure_is_kept(slow: Live) -> None:
    sdk = slow.sdk(_strict_response_validation=True)
    begun = sdk.responses.create(model="fake", input="MIDWAY", background=True)
    failed = ended(sdk, begun.id)
    assert (failed.status, failed.error.message) == ("failed", "the fake engine failed")
    refused = ended(sdk, sdk.responses.create(model="fake", input="REFUSE", background=True).id)
    assert refused.error.code == "rate_limit_exceeded"


def test_a_restarted_replica_tells_it_from_the_start(make_live: MakeLive) -> None:
    from tests.gateway.test_faults import kill_replica

    live = make_live("fake", FAKE_STEP_S=0.05)
    sdk = live.sdk()
    plain = sdk.responses.create(model="fake", input="x", max_output_tokens=12)
    begun = sdk.responses.create(
        model="fake", input="x", max_output_tokens=12, background=True
    )
    time.sleep(0.3)
    kill_replica(live)
    assert same(ended(sdk, begun.id).output) == same(plain.output)
    assert live.metric("firefront_replica_retries_total") == 1


def test_a_drain_waits_for_it(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STEP_S=0.02)
    live.sdk().responses.create(model="fake", input="x", max_output_tokens=30, background=True)
    wait_for(lambda: live.num_events("submit") == 1)
    live.process.send_signal(signal.SIGTERM)
    assert live.process.wait(10) == 0
    assert live.num_events("finish") == 1


def test_needs_store(live: Live) -> None:
    answer = live.http().post(
        URL, json={"model": "fake", "input": "x", "background": True, "store": False}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "background")


def test_a_log_that_grows_too_long_is_lost_in_words() -> None:
    async def follow() -> list[bytes]:
        log = EventLog(max_bytes=10)
        log.add([b"one", b"two"])
        pieces = []
        with pytest.raises(ReplicaError, match="too long"):
            async for piece in log.follow(1):
                pieces.append(piece)
                log.add([b"x" * 20])
        log.add([b"more"])
        assert (log.is_lost, log.num_bytes) == (True, 0)
        return pieces

    assert asyncio.run(follow()) == [b"two"]
