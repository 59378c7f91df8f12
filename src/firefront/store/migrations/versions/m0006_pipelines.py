"""Pipelines."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    seq = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "pipelines",
        sa.Column("seq", seq, autoincrement=True, nullable=False),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("base", sa.String(200), nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_pipelines"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_pipelines_account_id"
        ),
        sa.UniqueConstraint("account_id", "id", name="uq_pipelines_account_id_id"),
        sa.UniqueConstraint(
            "account_id", "base", "name", name="uq_pipelines_account_id_base_name"
        ),
    )
    op.create_index(
        "ix_pipelines_account_id_created_at_seq",
        "pipelines",
        ["account_id", "created_at", "seq"],
    )
