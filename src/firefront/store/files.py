"""Uploaded files: a row each, the content in a blob that rows of one account share.

Invariants: a file that is found has its whole content; one that has expired is not found; a content
goes when the last row that names it goes. Whoever publishes or removes a content holds the write
lock, so an upload and a removal of the same content cannot cross.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import msgspec
import sqlalchemy as sa

from firefront.core.errors import FirefrontError, RequestError
from firefront.store.blobs import Blobs, Incoming
from firefront.store.database import Database
from firefront.store.pages import Order, Page, read_one, read_page, struct_of
from firefront.store.tables import blobs, checked_id, files, storable

LOCK = 0x66697265_0002
_KIND = "file"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file; times in Unix seconds."""

    id: str
    filename: str
    purpose: str
    num_bytes: int
    sha256: str
    created_at: int
    expires_at: int | None
    status: str


class Files:
    """The files of all accounts."""

    def __init__(self, database: Database, contents: Blobs, now: Callable[[], float]) -> None:
        self._database = database
        self._contents = contents
        self._now = now

    def incoming(self) -> Incoming:
        """A content to be written, for `create`. Any thread."""
        return self._contents.incoming()

    def create(
        self,
        account_id: str,
        content: Incoming,
        *,
        filename: str,
        purpose: str,
        id: str | None = None,
        expires_after_s: int | None = None,
        status: str = "processed",
    ) -> File:
        """Keep a finished content as a file. Whatever has expired makes room first."""
        self.purge_expired()
        created_at = int(self._now())
        file = File(
            id=checked_id(id) if id else f"file-{secrets.token_hex(16)}",
            filename=storable(filename, "file"),
            purpose=storable(purpose, "purpose"),
            num_bytes=content.num_bytes,
            sha256=content.sha256,
            created_at=created_at,
            expires_at=None if expires_after_s is None else created_at + expires_after_s,
            status=status,
        )
        try:
            with self._database.write() as connection:
                self._database.lock(connection, LOCK)
                self._contents.publish(content)
                self._name(connection, account_id, file)
                row = {**msgspec.structs.asdict(file), "account_id": account_id}
                connection.execute(sa.insert(files).values(row))
        except BaseException as error:
            with suppress(FirefrontError):  # the next sweep will do
                self._collect({file.sha256})
            if isinstance(error, sa.exc.IntegrityError):
                raise RequestError(f"id: a file {file.id!r} exists", param="id") from None
            raise
        return file

    def get(self, account_id: str, id: str) -> File:
        """NotFoundError if the account has no such file."""
        with self._database.read() as connection:
            return self._get(connection, account_id, id)

    def open(self, account_id: str, id: str) -> tuple[File, BinaryIO]:
        """The file and its content, to be closed by the caller."""
        with self._database.read() as connection:
            file = self._get(connection, account_id, id)
            return file, self._contents.open(file.sha256)

    def delete(self, account_id: str, id: str) -> None:
        """NotFoundError if the account has no such file."""
        with self._database.write() as connection:
            self._database.lock(connection, LOCK)
            file = self._get(connection, account_id, id)
            _delete(connection, account_id, file.id, file.sha256)
        self._collect({file.sha256})

    def purge_expired(self) -> int:
        """Remove the files whose time has come; how many."""
        expired = sa.select(files).where(files.c.expires_at <= int(self._now()))
        with self._database.read() as connection:
            if connection.execute(expired.limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            self._database.lock(connection, LOCK)
            rows = connection.execute(expired).all()
            for row in rows:
                _delete(connection, row.account_id, row.id, row.sha256)
        self._collect({row.sha256 for row in rows})
        return len(rows)

    def sweep(self) -> int:
        """Remove what crashes left; how many contents."""
        with self._database.write() as connection:
            self._database.lock(connection, LOCK)
            named = set(connection.scalars(sa.select(blobs.c.sha256).distinct()))
            return self._contents.sweep(named)

    def list(
        self,
        account_id: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
    ) -> Page[File]:
        """The account's files, by time of creation."""
        where = [self._living()]
        if purpose is not None:
            where.append(files.c.purpose == storable(purpose, "purpose"))
        with self._database.read() as connection:
            rows, has_more = read_page(
                connection,
                files,
                account_id,
                kind=_KIND,
                after=after,
                limit=limit,
                order=order,
                where=where,
            )
        return Page([struct_of(File, row) for row in rows], has_more)

    def _living(self) -> sa.ColumnElement[bool]:
        return sa.or_(files.c.expires_at.is_(None), files.c.expires_at > int(self._now()))

    def _get(self, connection: sa.Connection, account_id: str, id: str) -> File:
        row = read_one(connection, files, account_id, id, _KIND, self._living())
        return struct_of(File, row)

    def _name(self, connection: sa.Connection, account_id: str, file: File) -> None:
        """See to it that the account has a row for the content."""
        where = sa.and_(blobs.c.account_id == account_id, blobs.c.sha256 == file.sha256)
        if connection.execute(sa.select(blobs.c.sha256).where(where)).first() is None:
            connection.execute(
                sa.insert(blobs).values(
                    account_id=account_id,
                    sha256=file.sha256,
                    num_bytes=file.num_bytes,
                    created_at=file.created_at,
                )
            )

    def _collect(self, candidates: set[str]) -> None:
        """Remove contents that no row names. After the commit that may have made them such: a
        crash in between leaves a content without a row for `sweep`, never a row without one."""
        with self._database.write() as connection:
            self._database.lock(connection, LOCK)
            for sha256 in candidates:
                if sha256 and not _is_named(connection, sha256):
                    self._contents.remove(sha256)


def _delete(connection: sa.Connection, account_id: str, id: str, sha256: str) -> None:
    """Delete a file's row, and the account's row of its content if no other file names it."""
    connection.execute(
        sa.delete(files).where(files.c.account_id == account_id, files.c.id == id)
    )
    others = sa.select(files.c.seq).where(
        files.c.account_id == account_id, files.c.sha256 == sha256
    )
    connection.execute(
        sa.delete(blobs).where(
            blobs.c.account_id == account_id, blobs.c.sha256 == sha256, ~others.exists()
        )
    )


def _is_named(connection: sa.Connection, sha256: str) -> bool:
    chosen = sa.select(blobs.c.sha256).where(blobs.c.sha256 == sha256).limit(1)
    return connection.execute(chosen).first() is not None
