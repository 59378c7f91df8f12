"""SIGTERM: nothing new, what runs may finish, then an error frame; a second signal means now."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.gateway.live import Live, wait_for

MakeLive = Callable[..., Live]


class Reader(threading.Thread):
    """Reads a stream to its end, or to its error."""

    def __init__(self, live: Live, max_tokens: int) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.finish: str | None = None
        self.error: Any = None
        self._sdk, self._max_tokens = live.sdk(), max_tokens
        self.start()
        wait_for(lambda: self.texts)

    def run(self) -> None:
        try:
            for chunk in self._sdk.completions.create(
                model="fake", prompt="x", max_tokens=self._max_tokens, stream=True
            ):
                self.texts.append(chunk.choices[0].text)
                self.finish = chunk.choices[0].finish_reason
        except openai.APIError as error:
            self.error = error


def test_drain_lets_streams_finish(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STEP_S=0.02)
    reader = Reader(live, 60)
    live.process.send_signal(signal.SIGTERM)
    wait_for(lambda: live.http().get("/readyz").status_code == 503)
    assert live.http().get("/livez").status_code == 200
    with pytest.raises(openai.InternalServerError) as raised:
        live.sdk().completions.create(model="fake", prompt="x")
    assert raised.value.status_code == 503
    assert raised.value.response.headers["retry-after"]
    reader.join()
    assert (len("".join(reader.texts)), reader.finish, reader.error) == (60, "length", None)
    assert live.process.wait(5) == 0


def test_streams_that_take_too_long_end_in_words(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STEP_S=0.02, FAKE_DRAIN_S=0.5)
    reader = Reader(live, 2000)
    started = time.monotonic()
    assert live.stop() == 0
    assert 0.4 < time.monotonic() - started < 4
    reader.join()
    assert "shutting down" in reader.error.message


def test_second_signal_is_now(make_live: MakeLive) -> None:
    live = make_live("fake", FAKE_STEP_S=0.02, FAKE_DRAIN_S=60)
    reader = Reader(live, 2000)
    live.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert live.process.poll() is None
    started = time.monotonic()
    live.process.send_signal(signal.SIGTERM)
    assert live.process.wait(10) == 0
    assert time.monotonic() - started < 4
    reader.join()
    assert "shutting down" in reader.error.message


def test_idle_server_stops_at_once(make_live: MakeLive) -> None:
    live = make_live("fake")
    keep = live.http()
    keep.get("/livez")  # an idle connection must not hold it up
    started = time.monotonic()
    assert live.stop() == 0
    assert time.monotonic() - started < 3


def test_ctrl_c_while_loading(tmp_path: Any) -> None:
    live = Live(tmp_path, "fake", FAKE_LOAD_S=30).spawn()
    time.sleep(2.0)
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(10) == 0
