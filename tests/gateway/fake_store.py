"""A store that forgets: what the gateway needs of one, in memory. STORE_FAILS in a metadata value
makes writing fail; accounts are kept apart as a real one does."""

import asyncio
import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from firefront.core.errors import NotFoundError


@dataclass(frozen=True, kw_only=True)
class FakeRecord:
    id: str
    created_at: int
    model: str
    priority: int
    status: str
    previous_response_id: str | None
    metadata: dict[str, str]
    input_items: list[dict[str, Any]]
    response: dict[str, Any]


@dataclass
class FakeResponses:
    rows: dict[tuple[str, str], FakeRecord] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, account_id: str, **fields: Any) -> FakeRecord:
        if "STORE_FAILS" in fields["metadata"].values():
            raise OSError("the fake disk is full")
        with self.lock:
            key = (account_id, fields["id"])
            assert key not in self.rows, "created twice"
            self.rows[key] = FakeRecord(**copy.deepcopy(fields))
            return self.rows[key]

    def get(self, account_id: str, id: str) -> FakeRecord:
        with self.lock:
            if (account_id, id) not in self.rows:
                raise NotFoundError(f"no response {id}")
            return copy.deepcopy(self.rows[account_id, id])

    def update(self, account_id: str, id: str, *, status: str, response: dict[str, Any]) -> None:
        record = self.get(account_id, id)
        with self.lock:
            self.rows[account_id, id] = replace(
                record, status=status, response=copy.deepcopy(response)
            )

    def delete(self, account_id: str, id: str) -> None:
        self.get(account_id, id)
        with self.lock:
            del self.rows[account_id, id]


class FakeStore:
    def __init__(self) -> None:
        self.responses = FakeResponses()

    async def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)
