"""Calls off the event loop: one after another for SQLite, several at once for PostgreSQL."""

import asyncio
import threading
import time

from firefront.store.store import Store
from tests.store.inside import add_response


def test_calls_run_beside_the_event_loop(store: Store) -> None:
    async def main() -> None:
        names = await store.run(lambda: threading.current_thread().name)
        assert names.startswith("store")
        add_response(store, "r")
        found = await store.run(store.responses.get, "local", "r")
        assert found.id == "r"
        await store.run(store.responses.update, "local", "r", status="completed", response={})
        listed = await store.run(store.responses.list, "local", limit=1)
        assert listed.items[0].status == "completed"

    asyncio.run(main())


def test_sqlite_gets_one_call_at_a_time(store: Store) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    async def main() -> None:
        await asyncio.gather(*(store.run(call) for _ in range(12)))

    asyncio.run(main())
    assert (most == 1) == store._database.is_sqlite
