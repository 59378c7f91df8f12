"""Feedback on stored completions."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "completion_feedback",
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("completion_id", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("choice", sa.Integer, nullable=False),
        sa.Column("score", sa.Float, nullable=True),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("corrected", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "completion_id", name="pk_completion_feedback"),
        sa.ForeignKeyConstraint(
            ["account_id", "completion_id"],
            ["completions.account_id", "completions.id"],
            name="fk_completion_feedback_account_id_completion_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_completion_feedback_account_id_score", "completion_feedback", ["account_id", "score"]
    )
