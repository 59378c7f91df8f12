"""Adapters."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "adapters",
        sa.Column("seq", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("base", sa.String(200), nullable=False),
        sa.Column("base_sha256", sa.String(64), nullable=True),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("targets", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("template_sha256", sa.String(64), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(200), nullable=True),
        sa.Column("is_pinned", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_adapters"),
        sa.UniqueConstraint("account_id", "id", name="uq_adapters_account_id_id"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_adapters_account_id"),
    )
    op.create_index(
        "ix_adapters_account_id_created_at_seq", "adapters", ["account_id", "created_at", "seq"]
    )
    op.create_index("ix_adapters_sha256", "adapters", ["sha256"])
    living = sa.text("state != 'retired'")
    op.create_index(
        "uq_adapters_living_name",
        "adapters",
        ["account_id", "base", "name"],
        unique=True,
        sqlite_where=living,
        postgresql_where=living,
    )
