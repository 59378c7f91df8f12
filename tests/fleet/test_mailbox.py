"""Mailboxes: bounded, in order, and the reader that stalls loses its own request alone."""

import asyncio

import pytest

from firefront.core.clock import ManualClock
from firefront.core.errors import ReplicaError
from firefront.core.messages import Delta
from firefront.fleet.mailbox import RESTARTED, Mailbox


def delta(text: str, finish: str | None = None) -> Delta:
    return Delta(request_id="r", generation=1, token_ids=[1], text=text, finish=finish)


def taken(mailbox: Mailbox) -> list[tuple[int, str]]:
    return [(index, item.text) for index, item in asyncio.run(mailbox.take())]


def test_order_and_end() -> None:
    mailbox = Mailbox(2, ManualClock())
    mailbox.put(1, delta("a"))
    mailbox.put(0, delta("b", "stop"))
    assert not mailbox.done
    mailbox.put(1, delta("c", "length"))
    assert mailbox.done
    mailbox.put(1, delta("too late"))
    assert taken(mailbox) == [(1, "a"), (0, "b"), (1, "c")]


def test_take_waits() -> None:
    async def run() -> None:
        mailbox = Mailbox(1, ManualClock())
        waiting = asyncio.ensure_future(mailbox.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        mailbox.put(0, delta("x"))
        assert [item.text for _, item in await waiting] == ["x"]

    asyncio.run(run())


def test_error_comes_after_what_waits() -> None:
    mailbox = Mailbox(1, ManualClock())
    mailbox.put(0, delta("x"))
    called = []
    mailbox.on_failure(lambda: called.append(1))
    mailbox.fail(ReplicaError("gone"))
    mailbox.fail(ReplicaError("again"))
    assert called == [1]
    assert taken(mailbox) == [(0, "x")]
    with pytest.raises(ReplicaError, match="gone"):
        asyncio.run(mailbox.take())


def test_too_much_waiting_fails_the_request() -> None:
    mailbox = Mailbox(1, ManualClock(), max_waiting_bytes=1000)
    for _ in range(10):
        mailbox.put(0, delta("x" * 300))
    assert mailbox.error is not None and mailbox.error.code == "slow_reader"


def test_waiting_too_long_fails_the_request() -> None:
    clock = ManualClock()
    mailbox = Mailbox(1, clock, stall_limit_s=30)
    clock.advance(100)  # nothing was there to take: not the reader's fault
    mailbox.put(0, delta("x"))
    clock.advance(29)
    mailbox.put(0, delta("y"))
    assert mailbox.error is None
    clock.advance(2)
    mailbox.put(0, delta("z"))
    assert mailbox.error is not None


def test_restart_forgets_what_that_sequence_said() -> None:
    mailbox = Mailbox(2, ManualClock(), replayable=True)
    mailbox.put(0, delta("a"))
    mailbox.put(1, delta("b"))
    mailbox.restart(0)
    assert not mailbox.started(0) and mailbox.started(1)
    items = asyncio.run(mailbox.take())
    assert items[0][0] == 1 and items[1] == (0, RESTARTED)
