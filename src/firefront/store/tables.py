"""The tables, as SQLAlchemy sees them, and the two kinds of text that a column may hold.

Knows no connection. Invariants: every row of a client's belongs to an account and is found only
together with it; text that a database might refuse (NUL, half a surrogate pair) never reaches one:
ids and names are checked, everything else is stored as JSON, which escapes it.
"""

import json
import re
from typing import Any

import sqlalchemy as sa

from firefront.core.errors import RequestError

LOCAL_ACCOUNT = "local"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_id(text: str) -> bool:
    """Whether `text` can be the id of anything at all."""
    return _ID.fullmatch(text) is not None


def checked_id(id: str) -> str:
    """`id` for a new row, or RequestError."""
    if not is_id(id):
        raise RequestError("id: must be letters, digits and ._:- only", param="id")
    return id


def is_storable(text: str) -> bool:
    return _UNSTORABLE.search(text) is None


def storable(text: str, param: str) -> str:
    """`text`, or RequestError if a database could refuse it."""
    if not is_storable(text):
        raise RequestError(f"{param}: holds a character that is no text", param=param)
    return text


class JsonText(sa.TypeDecorator[Any]):
    """A JSON value in a column of text, the same on every database."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if is_storable(text):  # NUL is escaped already
            return text
        return json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _account() -> sa.Column[str]:
    return sa.Column("account_id", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False)


def _sequence() -> sa.Column[int]:
    """Order of insertion, for what was created in the same second."""
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys
    return sa.Column("seq", big, primary_key=True, autoincrement=True)


def _seconds(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


# One row: which database this is. Its blobs lie in a folder of this name.
identity = sa.Table(
    "identity",
    metadata,
    sa.Column("store_id", sa.String(32), primary_key=True),
)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    _seconds("created_at"),
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("account_id", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("num_bytes", sa.BigInteger, nullable=False),
    _seconds("created_at"),
    sa.Index(None, "sha256"),
)

files = sa.Table(
    "files",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("purpose", sa.String(64), nullable=False),
    sa.Column("num_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    _seconds("created_at"),
    _seconds("expires_at", nullable=True),
    sa.Column("status", sa.String(32), nullable=False),
    sa.UniqueConstraint("account_id", "id"),
    sa.ForeignKeyConstraint(["account_id", "sha256"], ["blobs.account_id", "blobs.sha256"]),
    sa.Index(None, "account_id", "created_at", "seq"),
    sa.Index(None, "account_id", "sha256"),
    sa.Index(None, "expires_at"),
)

completions = sa.Table(
    "completions",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    _seconds("created_at"),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("metadata", JsonText, nullable=False),
    sa.Column("request", JsonText, nullable=False),
    sa.Column("answer", JsonText, nullable=False),
    sa.UniqueConstraint("account_id", "id"),
    sa.Index(None, "account_id", "created_at", "seq"),
)

# The pairs of completions.metadata once more, so that they can be searched.
completion_metadata = sa.Table(
    "completion_metadata",
    metadata,
    sa.Column("account_id", sa.String(64), primary_key=True),
    sa.Column("completion_id", sa.String(200), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Index(None, "account_id", "key", "value"),
    sa.ForeignKeyConstraint(
        ["account_id", "completion_id"],
        ["completions.account_id", "completions.id"],
        ondelete="CASCADE",
    ),
)

completion_feedback = sa.Table(
    "completion_feedback",
    metadata,
    sa.Column("account_id", sa.String(64), primary_key=True),
    sa.Column("completion_id", sa.String(200), primary_key=True),
    _seconds("created_at"),
    sa.Column("choice", sa.Integer, nullable=False),
    sa.Column("score", sa.Float, nullable=True),
    sa.Column("comment", JsonText, nullable=False),
    sa.Column("corrected", JsonText, nullable=False),
    sa.Index(None, "account_id", "score"),
    sa.ForeignKeyConstraint(
        ["account_id", "completion_id"],
        ["completions.account_id", "completions.id"],
        ondelete="CASCADE",
    ),
)

conversations = sa.Table(
    "conversations",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    _seconds("created_at"),
    sa.Column("metadata", JsonText, nullable=False),
    sa.UniqueConstraint("account_id", "id"),
)

conversation_items = sa.Table(
    "conversation_items",
    metadata,
    _sequence(),
    sa.Column("account_id", sa.String(64), nullable=False),
    sa.Column("conversation_id", sa.String(200), nullable=False),
    sa.Column("id", sa.String(200), nullable=False),
    sa.Column("item", JsonText, nullable=False),
    sa.UniqueConstraint("account_id", "conversation_id", "id"),
    sa.Index(None, "account_id", "conversation_id", "seq"),
    sa.ForeignKeyConstraint(
        ["account_id", "conversation_id"],
        ["conversations.account_id", "conversations.id"],
        ondelete="CASCADE",
    ),
)

responses = sa.Table(
    "responses",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    _seconds("created_at"),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("previous_response_id", sa.String(200), nullable=True),
    sa.Column("metadata", JsonText, nullable=False),
    sa.Column("input_items", JsonText, nullable=False),
    sa.Column("response", JsonText, nullable=False),
    sa.UniqueConstraint("account_id", "id"),
    sa.Index(None, "account_id", "created_at", "seq"),
)

# A name is one adapter's only, among an account's of one base that are not retired.
adapters = sa.Table(
    "adapters",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("base", sa.String(200), nullable=False),
    sa.Column("base_sha256", sa.String(64), nullable=True),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("targets", JsonText, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("template_sha256", sa.String(64), nullable=True),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("job_id", sa.String(200), nullable=True),
    sa.Column("is_pinned", sa.Boolean, nullable=False),
    _seconds("created_at"),
    sa.UniqueConstraint("account_id", "id"),
    sa.Index(None, "account_id", "created_at", "seq"),
    sa.Index(None, "sha256"),
)
sa.Index(
    "uq_adapters_living_name",
    adapters.c.account_id,
    adapters.c.base,
    adapters.c.name,
    unique=True,
    sqlite_where=adapters.c.state != "retired",
    postgresql_where=adapters.c.state != "retired",
)

# What makes one model ever anew; runs are jobs.
pipelines = sa.Table(
    "pipelines",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    _seconds("created_at"),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("base", sa.String(200), nullable=False),
    sa.Column("metadata", JsonText, nullable=False),
    sa.Column("definition", JsonText, nullable=False),
    sa.Column("state", JsonText, nullable=False),
    sa.UniqueConstraint("account_id", "id"),
    sa.UniqueConstraint("account_id", "base", "name"),
    sa.Index(None, "account_id", "created_at", "seq"),
)

# Work that outlasts a request, and the queue of it. `lease_owner` works on it now.
jobs = sa.Table(
    "jobs",
    metadata,
    _sequence(),
    _account(),
    sa.Column("id", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    _seconds("created_at"),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("resumes_as", sa.String(32), nullable=False),
    sa.Column("request", JsonText, nullable=False),
    sa.Column("metadata", JsonText, nullable=False),
    sa.Column("outcome", JsonText, nullable=False),
    sa.Column("error", JsonText, nullable=False),
    _seconds("finished_at", nullable=True),
    sa.Column("num_deaths", sa.Integer, nullable=False),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    _seconds("lease_expires_at", nullable=True),
    sa.UniqueConstraint("account_id", "id"),
    sa.Index(None, "account_id", "created_at", "seq"),
    sa.Index(None, "status", "seq"),
)


def _job_log(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        _sequence(),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(200), nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        _seconds("created_at"),
        *columns,
        sa.UniqueConstraint("account_id", "id"),
        sa.Index(None, "account_id", "job_id", "created_at", "seq"),
        sa.ForeignKeyConstraint(
            ["account_id", "job_id"], ["jobs.account_id", "jobs.id"], ondelete="CASCADE"
        ),
    )


job_events = _job_log(
    "job_events",
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("message", JsonText, nullable=False),
    sa.Column("data", JsonText, nullable=False),
)
job_checkpoints = _job_log(
    "job_checkpoints",
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("metrics", JsonText, nullable=False),
)
