"""A client that leaves: its sequences are aborted at once, for streams and whole answers alike."""

import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.gateway.live import Live, wait_for

LONG = {"model": "fake", "prompt": "long", "max_tokens": 2000}


def send(live: Live, body: dict[str, object]) -> socket.socket:
    parts = urlsplit(live.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    raw = json.dumps(body).encode()
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(raw) + raw
    )
    return connection


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_leaving_aborts_every_sequence(live: Live, stream: bool, n: int) -> None:
    submits, aborts = live.num_events("submit"), live.num_events("abort")
    connection = send(live, {**LONG, "stream": stream, "n": n})
    wait_for(lambda: live.num_events("submit") == submits + n)
    if stream:
        assert connection.recv(1000)
    connection.close()
    wait_for(lambda: live.num_events("abort") == aborts + n)
    wait_for(lambda: live.metric("firefront_num_requests_running", model_name="fake") == 0)


def test_leaving_at_any_point_leaves_nothing_behind(live: Live) -> None:
    ended = live.num_events("abort") + live.num_events("finish")
    submitted = live.num_events("submit")
    foreign = live.metric("firefront_replica_foreign_deltas_total")
    for i in range(20):
        connection = send(live, {**LONG, "stream": bool(i % 2)})
        time.sleep(i * 0.003)
        connection.close()
    wait_for(
        lambda: (
            live.num_events("submit") - submitted
            == live.num_events("abort") + live.num_events("finish") - ended
        )
    )
    wait_for(lambda: live.metric("firefront_num_requests_running", model_name="fake") == 0)
    assert live.metric("firefront_replica_foreign_deltas_total") == foreign


def test_closing_a_stream_of_the_sdk_aborts(live: Live) -> None:
    aborts = live.num_events("abort")
    with live.sdk().completions.create(**LONG, stream=True) as stream:
        next(iter(stream))
    wait_for(lambda: live.num_events("abort") == aborts + 1)
