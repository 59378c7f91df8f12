"""Feedback: one a completion, gone with it, and found by its score."""

import pytest

from firefront.core.errors import NotFoundError
from firefront.store import tables
from firefront.store.store import Store
from tests.store.inside import add_account, add_completion, rows


def test_the_latest_replaces_what_was_there(store: Store) -> None:
    add_completion(store, "c")
    corrected = {"role": "assistant", "content": "NUL \x00 half \ud83d"}
    store.feedback.set("local", "c", score=0.25, comment="\x00", choice=1)
    set = store.feedback.set("local", "c", corrected=corrected)
    assert store.feedback.of("local", ["c", "d"]) == {"c": set}
    assert (set.score, set.comment, set.choice, set.corrected) == (None, None, 0, corrected)
    assert store.feedback.of("local", []) == {}


def test_it_belongs_to_an_account_and_goes_with_its_completion(store: Store) -> None:
    add_completion(store, "c")
    other = add_account(store, "other")
    for account, id in ((other, "c"), ("local", "d"), ("local", "\x00")):
        with pytest.raises(NotFoundError):
            store.feedback.set(account, id, score=1)
    store.feedback.set("local", "c", score=1)
    assert store.feedback.of(other, ["c"]) == {}
    store.completions.delete("local", "c")
    assert rows(store, tables.completion_feedback) == []


def test_completions_by_score_and_date(store: Store) -> None:
    for i in range(6):
        add_completion(store, f"c{i}", created_at=100 + i)
    for i, score in enumerate([0.0, 0.5, 1.0, None]):
        store.feedback.set("local", f"c{i}", score=score)

    def found(**fields: object) -> list[str]:
        page = store.completions.list("local", **fields)  # type: ignore[arg-type]
        return [completion.id for completion in page.items]

    assert found(score=(0.5, None)) == ["c1", "c2"]
    assert found(score=(None, 0.5)) == ["c0", "c1"]
    assert found(score=(0.1, 0.9)) == ["c1"]
    assert found(created=(102, None)) == ["c2", "c3", "c4", "c5"]
    assert found(created=(101, 103), score=(0, 1)) == ["c1", "c2"]
    assert found(score=(0, 1), limit=1, order="desc") == ["c2"]
