"""Connections and transactions: SQLite in one file, or PostgreSQL with a small pool.

Knows no table. Invariants: a transaction that may write holds the write lock from its first
statement (SQLite), so it never fails for having read before; what a transaction wrote is on disk
when it ends; errors of a database leave as errors for a user, without the URL in them.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from firefront.core.errors import FirefrontError, OverloadedError, RequestError, StorageFullError

POOL_SIZE = 4  # PostgreSQL
BUSY_LIMIT_S = 10.0  # another process may hold SQLite's write lock for so long
_CONNECT_LIMIT_S = 10
_FILE_NAME = "firefront.db"


class Database:
    """One database, open. Any thread may use it; `num_workers` at once make sense."""

    def __init__(self, engine: sa.Engine, *, name: str) -> None:
        self._engine = engine
        self._writer = engine.execution_options(begin="IMMEDIATE")
        self.name = name  # for messages: a path, or what the URL says without its secrets
        self.is_sqlite = engine.dialect.name == "sqlite"
        self.num_workers = 1 if self.is_sqlite else POOL_SIZE

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads: one consistent view."""
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed at the end unless an exception leaves it."""
        with self._errors(), self._writer.begin() as connection:
            yield connection

    def lock(self, connection: sa.Connection, number: int) -> None:
        """Keep other writers that ask for `number` out until the transaction ends."""
        if not self.is_sqlite:  # there, whoever writes is alone
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError:
            raise  # the caller knows what it means
        except sa.exc.DBAPIError as error:
            translated = self._translated(error)
            if translated is None:
                raise
            raise translated from error
        except sa.exc.TimeoutError:
            raise OverloadedError("the database is busy", retry_after_s=1.0) from None

    def _translated(self, error: sa.exc.DBAPIError) -> FirefrontError | None:
        original: Any = error.orig
        if isinstance(original, sqlite3.Error):
            return self._sqlite_error(original)
        state = getattr(original, "sqlstate", None) or ""
        if state.startswith("531"):
            return StorageFullError(f"the database {self.name} has no room left")
        if error.connection_invalidated or state[:2] in ("08", "40", "53", "57"):
            return OverloadedError(f"the database {self.name} does not answer", retry_after_s=2.0)
        if not state and isinstance(error, sa.exc.OperationalError):  # never got as far as a state
            return OverloadedError(f"the database {self.name} is not reached", retry_after_s=2.0)
        return None

    def _sqlite_error(self, original: sqlite3.Error) -> FirefrontError | None:
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return OverloadedError("the database is busy", retry_after_s=1.0)
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
            return StorageFullError(f"{self.name}: cannot be written: {original}; free some space")
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return StorageFullError(f"{self.name}: cannot be opened: {original}")
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return RequestError(
                f"{self.name}: {original}; move the file away or restore a backup", param="store"
            )
        return None


def open_database(url: str | None, home: Path) -> Database:
    """The database at `url`, by default the file in `home`; RequestError if it cannot be one."""
    if url is None:
        return _sqlite(home / _FILE_NAME)
    try:
        parsed = sa.make_url(url)
        kind = parsed.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        raise _bad_url() from None
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return _sqlite(Path(parsed.database or ""))
    if kind in ("postgresql", "postgres"):
        return _postgres(parsed)
    raise _bad_url()


def _bad_url() -> RequestError:
    return RequestError(
        "--store: must be postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE", param="store"
    )


def _sqlite(path: Path) -> Database:
    try:
        # Created before SQLite would, so that nobody else can ever read it; its companions (-wal,
        # -shm) get the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077 and path.stat().st_uid == os.geteuid():
            path.chmod(0o600)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}", param="store") from None
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": BUSY_LIMIT_S, "check_same_thread": False},
        poolclass=sa.QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=BUSY_LIMIT_S,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine, name=str(path))


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say
    cursor = connection.cursor()
    _use_wal(cursor)
    # FULL: a commit is on disk when it returns. NORMAL could lose the last ones with the power.
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute(f"PRAGMA journal_size_limit={64 << 20}")
    cursor.close()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Switch to a write-ahead log; two processes that do so at once may be told to wait."""
    deadline_s = time.monotonic() + BUSY_LIMIT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _postgres(url: sa.URL) -> Database:
    try:
        import psycopg  # noqa: F401  an extra
    except ImportError:
        raise RequestError(
            "--store: PostgreSQL needs a driver: pip install 'firefront[postgres]'", param="store"
        ) from None
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": _CONNECT_LIMIT_S},
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=BUSY_LIMIT_S,
        pool_pre_ping=True,  # a server that was restarted costs a connection, not a request
        isolation_level="READ COMMITTED",
    )
    name = f"{url.database} at {url.host or 'localhost'}"
    try:
        engine.connect().close()
    except sa.exc.OperationalError as error:
        reason = str(error.orig).strip().splitlines()[-1]  # of the driver's; it knows no password
        raise RequestError(
            f"--store: the database {name} cannot be reached: {reason}", param="store"
        ) from None
    return Database(engine, name=name)
