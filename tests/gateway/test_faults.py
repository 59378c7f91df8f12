"""Replicas that die, hang or talk nonsense, and clients that do not read."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from tests.gateway.live import Live, wait_for

MakeLive = Callable[..., Live]


def kill_replica(live: Live, number: int = signal.SIGKILL) -> None:
    os.kill(live.replica_pids()[-1], number)


def ready(live: Live) -> bool:
    return live.http().get("/readyz").status_code == 200


def test_killed_in_mid_stream(make_live: MakeLive) -> None:
    live = make_live("fake")
    texts = []
    with pytest.raises(openai.APIError, match="replica that ran this request died"):
        stream = live.sdk().completions.create(
            model="fake", prompt="x", max_tokens=2000, stream=True
        )
        for i, chunk in enumerate(stream):
            texts.append(chunk.choices[0].text)
            if i == 5:
                kill_replica(live)
    assert len(texts) >= 6
    assert live.http().get("/livez").status_code == 200  # the gateway stays up
    wait_for(lambda: ready(live))
    again = live.sdk().completions.create(model="fake", prompt="x", max_tokens=3)
    assert again.usage.completion_tokens == 3
    assert live.metric("firefront_replica_restarts_total") == 1
    assert len(set(live.replica_pids())) == 2


def test_killed_before_the_first_byte(make_live: MakeLive, tmp_path: Path) -> None:
    cured = tmp_path / "cured"
    live = make_live("fake", FAKE_CURED=cured, FAKE_HANG_S=60)
    ask = live.sdk().completions.create
    options = {"model": "fake", "prompt": "HANG", "max_tokens": 2, "seed": 0}
    answers: dict[str, object] = {}

    def stream() -> None:
        chunks = ask(**options, stream=True)
        answers["stream"] = "".join(chunk.choices[0].text for chunk in chunks)

    def whole() -> None:
        answer = ask(**options, n=2)
        answers["whole"] = answer.choices[0].text, answer.usage.completion_tokens

    threads = [threading.Thread(target=stream), threading.Thread(target=whole)]
    for thread in threads:
        thread.start()
    wait_for(lambda: live.metric("firefront_replica_sequences_out") == 3)
    cured.touch()
    kill_replica(live)
    for thread in threads:
        thread.join()
    assert answers["whole"] == (answers["stream"], 4)
    assert live.metric("firefront_replica_retries_total") == 3


def test_a_whole_answer_is_retried_in_its_middle(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STEP_S=0.05)
    expected = live.sdk().completions.create(model="fake", prompt="x", max_tokens=12)
    timer = threading.Timer(0.3, kill_replica, [live])
    timer.start()
    answer = live.sdk().completions.create(model="fake", prompt="x", max_tokens=12)
    assert answer.choices[0].text == expected.choices[0].text
    assert answer.usage.completion_tokens == 12
    assert live.metric("firefront_replica_retries_total") == 1


def test_a_request_that_kills_is_tried_once_more_only(make_live: MakeLive) -> None:
    live = make_live("fake")
    with pytest.raises(openai.InternalServerError) as raised:
        live.sdk().completions.create(model="fake", prompt="DIE", max_tokens=2)
    assert raised.value.code == "replica_failed"
    assert raised.value.response.headers["x-should-retry"] == "false"
    wait_for(lambda: ready(live))
    assert live.num_events("submit") == 2
    assert live.sdk().completions.create(model="fake", prompt="x").choices


def test_new_work_during_a_restart_is_held(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_LOAD_S=1.0)
    expected = live.sdk().completions.create(model="fake", prompt="x").choices[0].text
    kill_replica(live)
    wait_for(lambda: not ready(live))
    answer = live.sdk(max_retries=0).completions.create(model="fake", prompt="x")
    assert answer.choices[0].text == expected
    assert ready(live)


def test_a_hung_step_is_ended(make_live: MakeLive, tmp_path: Path) -> None:
    cured = tmp_path / "cured"
    live = make_live("fake", FAKE_HANG_S=1.5, FAKE_CURED=cured)
    threading.Timer(1.0, cured.touch).start()
    answer = live.sdk().completions.create(model="fake", prompt="HANG", max_tokens=3)
    assert answer.usage.completion_tokens == 3
    assert live.metric("firefront_replica_hangs_total") == 1
    assert "fakes.py" in live.raw_log  # the stack of the step that hung


def test_a_stopped_replica_is_ended(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_HANG_S=1.5)
    kill_replica(live, signal.SIGSTOP)
    answer = live.sdk().completions.create(model="fake", prompt="x", max_tokens=3)
    assert answer.usage.completion_tokens == 3
    assert live.metric("firefront_replica_hangs_total") == 1


def test_foreign_deltas_reach_nobody(live: Live) -> None:
    foreign = live.metric("firefront_replica_foreign_deltas_total")
    late = live.metric("firefront_replica_late_deltas_total")
    answer = live.sdk().completions.create(model="fake", prompt="FOREIGN", max_tokens=4)
    assert "FOREIGN" not in answer.choices[0].text
    assert answer.usage.completion_tokens == 4
    assert live.metric("firefront_replica_foreign_deltas_total") == foreign + 1
    assert live.metric("firefront_replica_late_deltas_total") >= late + 1


def test_a_slow_reader_loses_only_its_own_stream(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STALL_S=1.0)
    body = {"model": "fake", "prompt": "BIG", "max_tokens": 2000, "stream": True}
    raw = json.dumps(body).encode()
    parts = urlsplit(live.url)
    slow = []
    for _ in range(3):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((parts.hostname, parts.port))
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n".replace(
                b"x", b"localhost", 1
            )
            % len(raw)
            + raw
        )
        slow.append(connection)
    wait_for(lambda: live.num_events("submit") == 3)
    started = time.monotonic()
    healthy = live.sdk().completions.create(model="fake", prompt="x", max_tokens=50)
    assert healthy.usage.completion_tokens == 50
    assert time.monotonic() - started < 5
    before = live.rss_bytes()
    wait_for(lambda: live.num_events("abort") == 3, 15)
    assert live.rss_bytes() - before < 60 << 20
    assert live.metric("firefront_num_requests_running") == 0
    for connection in slow:
        connection.close()


def test_keep_alive_comments_while_nothing_comes(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_KEEP_ALIVE_S=0.1, FAKE_STEP_S=0.5)
    text = live.http().post(
        "/v1/completions", json={"model": "fake", "prompt": "x", "max_tokens": 2, "stream": True}
    )
    assert text.headers["content-type"].startswith("text/event-stream")
    assert text.headers["x-accel-buffering"] == "no"
    assert text.text.startswith(": keep-alive\n\n")
    assert text.text.endswith("data: [DONE]\n\n")
    sdk = live.sdk().completions.create(model="fake", prompt="x", max_tokens=2, stream=True)
    assert len("".join(chunk.choices[0].text for chunk in sdk)) == 2


def test_a_damaged_model_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    live = Live(tmp_path, "broken").spawn()
    assert live.process.wait(20) != 0
    assert "broken: the fake file is damaged" in live.raw_log


def test_a_replica_that_never_starts_is_given_up(tmp_path: Path) -> None:
    live = Live(tmp_path, "crash").spawn()
    assert live.process.wait(20) != 0
    assert "does not start" in live.raw_log


def test_replicas_die_with_the_gateway(make_live: MakeLive) -> None:
    live = make_live("fake", "HANG")
    pids = live.replica_pids()
    live.process.kill()
    live.process.wait()
    wait_for(lambda: not any(_alive(pid) for pid in pids), 2)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
