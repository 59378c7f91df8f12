"""Lists that are read page by page, in the order in which rows were created.

Knows no table. A page goes on after an id, so rows that come and go meanwhile move nothing: what is
there from the first page to the last is seen exactly once.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec
import sqlalchemy as sa

from firefront.core.errors import NotFoundError
from firefront.store.tables import is_id

MAX_LIMIT = 10_000
Order = Literal["asc", "desc"]
_Item = TypeVar("_Item")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Page(msgspec.Struct, Generic[_Item], frozen=True):
    """Some items in order, and whether more follow."""

    items: list[_Item]
    has_more: bool


def not_found(kind: str, id: str, *, param: str = "id") -> NotFoundError:
    """What is said of an id that does not exist, is another account's, or never could exist."""
    return NotFoundError(f"{param}: no {kind} {id[:100]!r}", param=param, code="not_found")


def owned(
    table: sa.Table, account_id: str, id: str, kind: str, *, param: str = "id"
) -> sa.ColumnElement[bool]:
    """The condition that finds one row of an account; NotFoundError if the id can be none."""
    if not is_id(id):
        raise not_found(kind, id, param=param)
    return sa.and_(table.c.account_id == account_id, table.c.id == id)


def struct_of(kind: type[_Struct], row: sa.Row[Any]) -> _Struct:
    """A row as a struct; its table has a column for each of the fields."""
    return kind(**{name: getattr(row, name) for name in kind.__struct_fields__})


def read_one(
    connection: sa.Connection,
    table: sa.Table,
    account_id: str,
    id: str,
    kind: str,
    *where: sa.ColumnElement[bool],
) -> sa.Row[Any]:
    """The account's row of this id, if it meets `where`; NotFoundError if there is none."""
    chosen = sa.select(table).where(owned(table, account_id, id, kind), *where)
    row = connection.execute(chosen).one_or_none()
    if row is None:
        raise not_found(kind, id)
    return row


def read_page(
    connection: sa.Connection,
    table: sa.Table,
    account_id: str,
    *,
    kind: str,
    after: str | None,
    limit: int,
    order: Order,
    where: Sequence[sa.ColumnElement[bool]] = (),
) -> tuple[list[sa.Row[Any]], bool]:
    """Up to `limit` rows of the account that meet `where`, and whether more follow.

    `after`: the id of a row of the account, whether or not it meets `where`; NotFoundError if
    there is none.
    """
    assert 0 <= limit <= MAX_LIMIT
    place = sa.tuple_(table.c.created_at, table.c.seq)
    chosen = sa.select(table).where(table.c.account_id == account_id, *where)
    if after is not None:
        last = _place_of(connection, table, account_id, after, kind)
        edge = sa.tuple_(*(sa.literal(value, sa.BigInteger) for value in last))
        chosen = chosen.where(place > edge if order == "asc" else place < edge)
    for column in (table.c.created_at, table.c.seq):
        chosen = chosen.order_by(column.asc() if order == "asc" else column.desc())
    rows = connection.execute(chosen.limit(limit + 1)).all()
    return list(rows[:limit]), len(rows) > limit


def _place_of(
    connection: sa.Connection, table: sa.Table, account_id: str, id: str, kind: str
) -> tuple[int, int]:
    if is_id(id):
        row = connection.execute(
            sa.select(table.c.created_at, table.c.seq).where(
                table.c.account_id == account_id, table.c.id == id
            )
        ).one_or_none()
        if row is not None:
            return row.created_at, row.seq
    raise not_found(kind, id, param="after")
