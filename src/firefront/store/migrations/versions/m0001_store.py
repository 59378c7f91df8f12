"""The first tables: accounts, blobs, files, stored completions and responses."""

import secrets
import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    identity = op.create_table(
        "identity",
        sa.Column("store_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("store_id", name="pk_identity"),
    )
    accounts = op.create_table(
        "accounts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
    )
    _create_files()
    _create_completions()
    _create_responses()
    op.bulk_insert(identity, [{"store_id": secrets.token_hex(8)}])
    op.bulk_insert(accounts, [{"id": "local", "created_at": int(time.time())}])


def _create_files() -> None:
    op.create_table(
        "blobs",
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "sha256", name="pk_blobs"),
        _of_account("blobs"),
    )
    op.create_index("ix_blobs_sha256", "blobs", ["sha256"])
    op.create_table(
        "files",
        *_keys("files"),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "sha256"],
            ["blobs.account_id", "blobs.sha256"],
            name="fk_files_account_id_sha256",
        ),
    )
    _index("files", "account_id", "created_at", "seq")
    _index("files", "account_id", "sha256")
    _index("files", "expires_at")


def _create_completions() -> None:
    op.create_table(
        "completions",
        *_keys("completions"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
    )
    _index("completions", "account_id", "created_at", "seq")
    op.create_table(
        "completion_metadata",
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("completion_id", sa.String(200), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "completion_id", "key", name="pk_completion_metadata"
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "completion_id"],
            ["completions.account_id", "completions.id"],
            name="fk_completion_metadata_account_id_completion_id",
            ondelete="CASCADE",
        ),
    )
    _index("completion_metadata", "account_id", "key", "value")


def _create_responses() -> None:
    op.create_table(
        "responses",
        *_keys("responses"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("previous_response_id", sa.String(200), nullable=True),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("input_items", sa.Text, nullable=False),
        sa.Column("response", sa.Text, nullable=False),
    )
    _index("responses", "account_id", "created_at", "seq")


def _keys(table: str) -> tuple[Any, ...]:
    """Order of insertion, account and id, and what holds for them."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return (
        sa.Column("seq", number, autoincrement=True, nullable=False),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=f"pk_{table}"),
        sa.UniqueConstraint("account_id", "id", name=f"uq_{table}_account_id_id"),
        _of_account(table),
    )


def _of_account(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=f"fk_{table}_account_id")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
