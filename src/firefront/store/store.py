"""The store: everything that outlasts the process, opened once and called off the event loop.

Owns the worker threads (one for SQLite, which writes one thing at a time anyway) and the order of
opening: database, tables, leavings of crashes. Knows nothing of what is stored.
"""

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import sqlalchemy as sa

from firefront.core.errors import RequestError
from firefront.core.paths import home as default_home
from firefront.store.adapters import Adapters
from firefront.store.blobs import Blobs
from firefront.store.completions import Completions
from firefront.store.conversations import Conversations
from firefront.store.database import Database, open_database
from firefront.store.feedback import Feedbacks
from firefront.store.files import Files
from firefront.store.jobs import Jobs
from firefront.store.migrate import migrate
from firefront.store.pipelines import Pipelines
from firefront.store.responses import Responses
from firefront.store.tables import identity

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Store:
    """`files`, `completions`, `feedback`, `conversations`, `responses`, `adapters`, `jobs` and
    `pipelines` block; `await store.run(store.files.get, ...)`. `adapter_folder` and `job_folder`:
    where the files of adapters, and what jobs need on the way, belong."""

    def __init__(
        self, database: Database, contents: Blobs, home: Path, name: str, now: Callable[[], float]
    ) -> None:
        self._database = database
        self.adapter_folder = home / "adapters" / name
        self.job_folder = home / "jobs" / name
        self._workers = ThreadPoolExecutor(database.num_workers, thread_name_prefix="store")
        self.files = Files(database, contents, now)
        self.completions = Completions(database)
        self.feedback = Feedbacks(database, now)
        self.conversations = Conversations(database)
        self.responses = Responses(database)
        self.adapters = Adapters(database, now)
        self.jobs = Jobs(database, now)
        self.pipelines = Pipelines(database, now)

    @classmethod
    def open(
        cls,
        url: str | None = None,
        home: Path | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> "Store":
        """Open the database at `url`, by default a file in `home`, which also holds the blobs.

        Brings the tables up to date and clears away what crashes left. RequestError names what is
        wrong with `url` or `home`. Blocks; any thread may call it.
        """
        home = default_home() if home is None else _private(home)
        database = open_database(url, home)
        try:
            migrate(database)
            with database.read() as connection:
                name = connection.scalars(sa.select(identity.c.store_id)).one()
            store = cls(database, Blobs(home / "blobs" / name), home, name, now)
            store.files.purge_expired()
            store.files.sweep()
        except BaseException:
            database.close()
            raise
        return store

    async def run(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a method of the store in one of its threads."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._workers, call)

    def close(self) -> None:
        """After the last call; waits for calls that run."""
        self._workers.shutdown(wait=True)
        self._database.close()


def _private(home: Path) -> Path:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{home}: {error.strerror}; set FIREFRONT_HOME to a folder of yours",
            param="FIREFRONT_HOME",
        ) from None
    return home
