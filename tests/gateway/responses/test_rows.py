"""Rows that no request of this server made: another account's, and one of a server that died."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from firefront.fleet.router import Router
from firefront.gateway.app import Application
from firefront.gateway.state import Gateway
from firefront.store.store import Store
from tests.store.inside import add_account

URL = "/v1/responses"
RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}


def ask(store: Store, method: str, path: str) -> httpx2.Response:
    app = Application(Gateway(Router([]), store=store))

    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path)

    return asyncio.run(send())


Stored = Callable[..., Store]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """A store that has one response, of the account given."""
    stores = []

    def make(account_id: str, **fields: Any) -> Store:
        store = Store.open(home=tmp_path / account_id / str(len(stores)))
        stores.append(store)
        if account_id != "local":
            add_account(store, account_id)
        store.responses.create(
            account_id,
            id="resp_1",
            created_at=1,
            model="m",
            priority=0,
            previous_response_id=None,
            metadata={},
            input_items=[],
            **{"status": "in_progress", "response": RESPONSE, **fields},
        )
        return store

    yield make
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{URL}/resp_1"),
        ("GET", f"{URL}/resp_1?stream=true"),
        ("GET", f"{URL}/resp_1/input_items"),
        ("POST", f"{URL}/resp_1/cancel"),
        ("DELETE", f"{URL}/resp_1"),
    ],
)
def test_another_accounts_response_is_not_there(
    stored: Stored, method: str, path: str
) -> None:
    store = stored("somebody")
    assert ask(store, method, path).status_code == 404
    assert store.responses.get("somebody", "resp_1").status == "in_progress"
    assert ask(stored("local"), method, path).status_code != 404


def test_what_a_dead_server_left_running_has_failed(stored: Stored) -> None:
    store = stored("local")
    answer = ask(store, "GET", f"{URL}/resp_1").json()
    assert answer["status"] == "failed"
    assert answer["error"]["code"] == "server_error"
    assert store.responses.get("local", "resp_1").status == "failed"
    kept = stored("local", status="completed", response={**RESPONSE, "status": "completed"})
    assert ask(kept, "GET", f"{URL}/resp_1").json()["status"] == "completed"
