"""Adapters: what each is called, which base it is for, which files it has, whether it is served.

Knows no files; a row's `sha256` says which they are. Invariant: of an account's adapters of one
base, those that are not retired have names of their own, whoever writes at once.
"""

import re
import secrets
from collections.abc import Callable
from typing import Literal

import msgspec
import sqlalchemy as sa

from firefront.core.errors import NotFoundError, RequestError
from firefront.store.database import Database
from firefront.store.pages import Order, Page, not_found, owned, read_one, read_page, struct_of
from firefront.store.tables import adapters, checked_id, storable

LOCK = 0x66697265_0003
State = Literal["serving", "retired"]
_KIND = "adapter"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_LIVING = adapters.c.state != "retired"


class StoredAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter; `created_at` in Unix seconds.

    `base` is the name its base model is served under, `base_sha256` that model's digest where it
    is known; `targets` the linears it changes. `state`: it may be asked for (serving), or it was
    replaced or unloaded and its files may be gone (retired).
    """

    account_id: str
    id: str
    name: str
    base: str
    base_sha256: str | None
    rank: int
    targets: list[str]
    sha256: str
    template_sha256: str | None
    state: State
    job_id: str | None
    is_pinned: bool
    created_at: int


def checked_name(name: str, param: str) -> str:
    """`name` for a new adapter, or RequestError: it becomes part of a model's name and of URLs."""
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{param}: must be up to 100 letters, digits and ._- and begin with a letter or digit",
            param=param,
        )
    return name


class Adapters:
    """The adapters of all accounts."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    def create(
        self,
        account_id: str,
        *,
        name: str,
        base: str,
        rank: int,
        targets: list[str],
        sha256: str,
        base_sha256: str | None = None,
        template_sha256: str | None = None,
        job_id: str | None = None,
        is_pinned: bool = False,
        id: str | None = None,
        replaces: bool = False,
    ) -> StoredAdapter:
        """Name an adapter whose files are there, and serve it. RequestError if the name is taken,
        unless it `replaces` the one of that name, which is retired in the same moment."""
        adapter = StoredAdapter(
            account_id=account_id,
            id=checked_id(id) if id else f"adapter-{secrets.token_hex(12)}",
            name=checked_name(name, "name"),
            base=storable(base, "base"),
            base_sha256=base_sha256,
            rank=rank,
            targets=targets,
            sha256=sha256,
            template_sha256=template_sha256,
            state="serving",
            job_id=job_id,
            is_pinned=is_pinned,
            created_at=int(self._now()),
        )
        try:
            with self._database.write() as connection:
                self._database.lock(connection, LOCK)
                if replaces:
                    same = _named(account_id, base, name)
                    connection.execute(sa.update(adapters).where(same).values(state="retired"))
                connection.execute(sa.insert(adapters).values(msgspec.structs.asdict(adapter)))
        except sa.exc.IntegrityError:
            raise RequestError(
                f"name: {base} has an adapter {name!r} already", param="name"
            ) from None
        return adapter

    def get(self, account_id: str, id: str) -> StoredAdapter:
        """NotFoundError if the account has no such adapter."""
        with self._database.read() as connection:
            row = read_one(connection, adapters, account_id, id, _KIND)
        return struct_of(StoredAdapter, row)

    def find(self, account_id: str, base: str, name: str) -> StoredAdapter:
        """The account's adapter of this name that is not retired, or NotFoundError."""
        if _NAME.fullmatch(name):
            with self._database.read() as connection:
                chosen = sa.select(adapters).where(_named(account_id, storable(base, "base"), name))
                row = connection.execute(chosen).one_or_none()
            if row is not None:
                return struct_of(StoredAdapter, row)
        raise NotFoundError(f"{base[:200]} has no adapter {name[:200]!r}", param="model")

    def retire(self, account_id: str, id: str) -> None:
        """Serve it no more; it stays so. NotFoundError if the account serves no such adapter."""
        where = sa.and_(owned(adapters, account_id, id, _KIND), _LIVING)
        with self._database.write() as connection:
            done = connection.execute(sa.update(adapters).where(where).values(state="retired"))
            if not done.rowcount:
                raise not_found(_KIND, id)

    def delete(self, account_id: str, id: str) -> None:
        """NotFoundError if the account has no such adapter."""
        with self._database.write() as connection:
            where = owned(adapters, account_id, id, _KIND)
            if not connection.execute(sa.delete(adapters).where(where)).rowcount:
                raise not_found(_KIND, id)

    def serving(self) -> list[StoredAdapter]:
        """Those of all accounts that may be asked for, the oldest first."""
        chosen = sa.select(adapters).where(adapters.c.state == "serving").order_by(adapters.c.seq)
        with self._database.read() as connection:
            return [struct_of(StoredAdapter, row) for row in connection.execute(chosen)]

    def list(
        self,
        account_id: str,
        *,
        state: State | None = None,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
    ) -> Page[StoredAdapter]:
        """The account's adapters by time of creation; without `state`, all that are not retired."""
        with self._database.read() as connection:
            rows, has_more = read_page(
                connection,
                adapters,
                account_id,
                kind=_KIND,
                after=after,
                limit=limit,
                order=order,
                where=[_LIVING if state is None else adapters.c.state == state],
            )
        return Page([struct_of(StoredAdapter, row) for row in rows], has_more)

    def digests(self) -> set[str]:
        """The files that adapters which are not retired have."""
        with self._database.read() as connection:
            return set(connection.scalars(sa.select(adapters.c.sha256).where(_LIVING).distinct()))

    def is_needed(self, sha256: str) -> bool:
        """Whether an adapter that is not retired has these files."""
        chosen = sa.select(adapters.c.seq).where(adapters.c.sha256 == sha256, _LIVING).limit(1)
        with self._database.read() as connection:
            return connection.execute(chosen).first() is not None


def _named(account_id: str, base: str, name: str) -> sa.ColumnElement[bool]:
    same = sa.and_(adapters.c.account_id == account_id, adapters.c.base == base)
    return sa.and_(same, adapters.c.name == name, _LIVING)
