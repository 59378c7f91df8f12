"""Feedback on stored chat completions: what somebody thought of an answer, and a better one.

Knows nothing of the shapes inside. Invariant: at most one a completion, the latest; it goes with
its completion.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from firefront.store.database import Database
from firefront.store.pages import not_found, owned, struct_of
from firefront.store.tables import completion_feedback, completions

_OF = completion_feedback.c


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """`score` from 0 (bad) to 1 (good); `choice`: which of the answers is meant; `corrected`: the
    assistant message that should have been the answer; `created_at` in Unix seconds."""

    completion_id: str
    created_at: int
    choice: int
    score: float | None
    comment: str | None
    corrected: dict[str, Any] | None


class Feedbacks:
    """The feedback of all accounts."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    def set(
        self,
        account_id: str,
        completion_id: str,
        *,
        choice: int = 0,
        score: float | None = None,
        comment: str | None = None,
        corrected: dict[str, Any] | None = None,
    ) -> Feedback:
        """Replaces what was there. NotFoundError if the account has no such completion."""
        feedback = Feedback(
            completion_id=completion_id,
            created_at=int(self._now()),
            choice=choice,
            score=score,
            comment=comment,
            corrected=corrected,
        )
        with self._database.write() as connection:
            where = owned(completions, account_id, completion_id, "completion")
            chosen = sa.select(completions.c.seq).where(where).with_for_update()
            if connection.execute(chosen).first() is None:
                raise not_found("completion", completion_id)
            connection.execute(
                sa.delete(completion_feedback).where(
                    _OF.account_id == account_id, _OF.completion_id == completion_id
                )
            )
            row = {**msgspec.structs.asdict(feedback), "account_id": account_id}
            connection.execute(sa.insert(completion_feedback).values(row))
        return feedback

    def of(self, account_id: str, completion_ids: Sequence[str]) -> dict[str, Feedback]:
        """The feedback of those that have some, by completion."""
        if not completion_ids:
            return {}
        chosen = sa.select(completion_feedback).where(
            _OF.account_id == account_id, _OF.completion_id.in_(completion_ids)
        )
        with self._database.read() as connection:
            rows = connection.execute(chosen).all()
        return {row.completion_id: struct_of(Feedback, row) for row in rows}
