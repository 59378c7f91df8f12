"""From traffic to a data set: feedback on stored completions, a file made of them in one call."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from firefront.store.store import Store
from firefront.tuning.rows import parse_row
from tests.gateway.live import Live
from tests.store.inside import add_account, add_completion

DATASET = "/v1/chat/completions:dataset"


@pytest.fixture
def store(live: Live) -> Iterator[Store]:
    store = Store.open(None, live.home)
    empty(store)
    yield store
    empty(store)
    store.close()


def empty(store: Store) -> None:
    """A server is shared by files of tests, in any order: what one keeps is in another's way."""
    for completion in store.completions.list("local", limit=1000).items:
        store.completions.delete("local", completion.id)
    for file in store.files.list("local", limit=1000).items:
        store.files.delete("local", file.id)


def ask(live: Live, question: str, **fields: Any) -> str:
    """A chat that is kept; its id."""
    body = {"model": "fake", "messages": [{"role": "user", "content": question}], "store": True}
    answer = live.http().post("/v1/chat/completions", json={**body, **fields})
    assert answer.status_code == 200, answer.text
    id: str = answer.json()["id"]
    return id


def tell(live: Live, id: str, **fields: Any) -> httpx2.Response:
    return live.http().post(f"/v1/chat/completions/{id}/feedback", json=fields)


def made(live: Live, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The answer, and the rows of the file."""
    answer = live.http().post(DATASET, json=fields)
    assert answer.status_code == 200, answer.text
    content = live.http().get(f"/v1/files/{answer.json()['id']}/content").text
    return answer.json(), [json.loads(line) for line in content.splitlines()]


def questions(rows: list[dict[str, Any]]) -> list[str]:
    return [row["messages"][0]["content"] for row in rows]


def test_the_whole_way(live: Live, store: Store) -> None:
    """Answers are kept, judged and corrected; what was good becomes a file the SDK can read."""
    good = ask(live, "SAY good STOP", metadata={"team": "a"})
    bad = ask(live, "SAY bad STOP", metadata={"team": "a"})
    ask(live, "SAY other STOP", metadata={"team": "b"}, model="some/other")
    assert tell(live, good, score=1, comment="fine").status_code == 200
    told = tell(live, bad, score=-1, corrected="better").json()
    assert told["score"] == 0 and told["corrected"] == {"role": "assistant", "content": "better"}
    assert live.http().get(f"/v1/chat/completions/{bad}/feedback").json() == told

    file, rows = made(live, metadata={"team": "a"}, filename="team.jsonl")
    assert file["purpose"] == "fine-tune" and file["filename"] == "team.jsonl"
    assert file["dataset"] == {"method": "supervised", "completions": 2, "rows": 2, "left_out": []}
    assert questions(rows) == ["SAY bad STOP", "SAY good STOP"]
    assert rows[0]["messages"][-1]["content"] == "better"
    given = live.sdk().chat.completions.retrieve(good).choices[0].message
    assert rows[1]["messages"][-1] == {"role": "assistant", "content": given.content}
    assert live.sdk().files.retrieve(file["id"]).bytes == file["bytes"]

    assert questions(made(live, min_score=0.5)[1]) == ["SAY good STOP"]
    assert questions(made(live, max_score=0.5)[1]) == ["SAY bad STOP"]
    assert questions(made(live, corrected=False, model="fake")[1]) == ["SAY good STOP"]
    assert questions(made(live, model="some/other")[1]) == ["SAY other STOP"]
    assert questions(made(live, limit=1)[1]) == ["SAY other STOP"]
    file, pairs = made(live, method="preference")
    assert [row["preferred_output"][0]["content"] for row in pairs] == ["better"]
    assert file["dataset"]["completions"] == 3 and len(file["dataset"]["left_out"]) == 2
    for row in [*rows, *pairs]:
        parse_row(row, 1)


def test_dates_tools_and_many_pages(live: Live, store: Store) -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    for i in range(250):
        name = "f" if i % 2 else "g"
        add_completion(
            store, f"c{i}", created_at=1000 + i,
            request={"messages": [{"role": "user", "content": f"q{i}"}],
                     "tools": [{"type": "function", "function": {"name": name}}]},
            answer={"id": f"c{i}", "choices": [
                {"index": 0, "message": message, "finish_reason": "tool_calls"}]},
        )  # fmt: skip
    found = questions(made(live, tool_success=True)[1])
    assert found == [f"q{i}" for i in range(249, 0, -2)]
    assert questions(made(live, created_after=1100, created_before=1104)[1]) == ["q103", "q101"]
    file, rows = made(live, limit=120)
    assert file["dataset"]["completions"] == 120 and len(rows) == 60
    (reason,) = file["dataset"]["left_out"]
    assert "calls 'f', which is not among" in reason["reason"] and reason["completions"] == 60


def test_nothing_of_another_account_and_no_empty_file(live: Live, store: Store) -> None:
    other = add_account(store, "other")
    add_completion(store, "theirs", account=other)
    refused = live.http().post(DATASET, json={})
    assert refused.status_code == 400 and "is `store` true" in refused.text
    for path in ("theirs", "nowhere"):
        assert tell(live, path, score=1).status_code == 404
        assert live.http().get(f"/v1/chat/completions/{path}/feedback").status_code == 404
    id = ask(live, "SAY long", max_tokens=1)
    refused = live.http().post(DATASET, json={})
    assert refused.status_code == 400 and "did not end by itself (length)" in refused.text
    assert store.files.list("local").items == []
    with pytest.raises(openai.NotFoundError):
        live.sdk().get(f"/chat/completions/{id}/feedback", cast_to=object)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "score"),
        ({"score": 1.5}, "score"),
        ({"score": -0.5}, "score"),
        ({"score": "good"}, "score"),
        ({"score": 1, "choice": 1}, "choice"),
        ({"score": 1, "choice": -1}, "choice"),
        ({"comment": "x" * 20_000}, "comment"),
        ({"corrected": ""}, "corrected"),
        ({"corrected": {"role": "user", "content": "x"}}, "corrected.role"),
        ({"corrected": {"content": 5}}, "corrected"),
        ({"corrected": {"tool_calls": [{"function": {"name": "f"}}]}}, "corrected"),
    ],
)
def test_bad_feedback(live: Live, store: Store, fields: dict[str, Any], param: str) -> None:
    refused = tell(live, ask(live, "SAY a STOP"), **fields)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == param
    assert store.feedback.of("local", [c.id for c in store.completions.list("local").items]) == {}


def test_what_is_not_known_is_named_or_refused(live: Live, store: Store) -> None:
    id = ask(live, "SAY a STOP")
    path, header = f"/v1/chat/completions/{id}/feedback", "x-firefront-ignored-params"
    for url, body in ((path, {"score": 1, "mood": "x"}), (DATASET, {"mood": "x"})):
        refused = live.http().post(f"{url}?strict=1", json=body)
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "mood"
        answer = live.http().post(url, json=body)
        assert answer.status_code == 200 and answer.headers[header] == "mood"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"method": "dpo"}, "method"),
        ({"created_after": -1}, "created_after"),
        ({"created_before": 2**60}, "created_before"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"filename": ""}, "filename"),
        ({"model": "\x00"}, "model"),
        ({"min_score": "x"}, "min_score"),
    ],
)
def test_bad_filters(live: Live, fields: dict[str, Any], param: str) -> None:
    refused = live.http().post(DATASET, json=fields)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param
