"""/v1/firefront/evaluations: what is accepted, what is refused and how, pages, foreign accounts."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.gateway.live import Live, wait_for

PATH = "/v1/firefront/evaluations"
ROW = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


@pytest.fixture
def http(live: Live) -> Iterator[httpx2.Client]:
    with live.http() as client:
        yield client


@pytest.fixture
def file(live: Live) -> str:
    content = json.dumps(ROW).encode() + b"\n"
    return live.sdk().files.create(file=("rows.jsonl", content), purpose="fine-tune").id


def create(http: httpx2.Client, **fields: Any) -> dict[str, Any]:
    answer = http.post(PATH, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_new_evaluation(http: httpx2.Client, file: str) -> None:
    """`fake` is no folder of a model: the evaluation cannot be done, which is said."""
    made = create(
        http, model="accounts/a/models/fake", against="some/other", file=file, kind="exact",
        forget=[file], limit=5, seed=3, max_score_loss=0.1, metadata={"team": "a"},
    )  # fmt: skip
    assert made["id"].startswith("eval-") and made["object"] == "evaluation"
    assert (made["model"], made["against"], made["status"]) == ("fake", "some/other", "queued")
    assert (made["file"], made["forget"], made["kind"]) == (file, [file], "exact")
    assert (made["limit"], made["seed"], made["metadata"]) == (5, 3, {"team": "a"})
    assert (made["max_score_loss"], made["max_perplexity_rise"]) == (0.1, 0.05)
    assert made["results"] is None and made["result_files"] == [] and made["error"] is None

    def ended() -> Any:
        found = http.get(f"{PATH}/{made['id']}").json()
        return found if found["finished_at"] else None

    found = wait_for(ended, 60)
    assert found["status"] == "failed" and found["error"]["message"]
    events = http.get(f"{PATH}/{made['id']}/events?order=asc").json()["data"]
    assert events[0]["message"] == "Created evaluation"
    assert (events[-1]["level"], events[-1]["message"]) == ("error", found["error"]["message"])
    answer = http.post(f"{PATH}/{made['id']}/cancel")
    assert answer.status_code == 400 and "is failed" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"model": "nobody"}, "model", 404),
        ({"model": "fake:none"}, "model", 404),
        ({"model": None}, "model", 400),
        ({"against": "nobody"}, "against", 404),
        ({"against": "fake"}, "against", 400),
        ({"against": "base"}, "against", 400),
        ({"file": "file-none"}, "file", 400),
        ({"kind": "odd"}, "kind", 400),
        ({"kind": "graded"}, "judge", 400),
        ({"kind": "graded", "judge": "nobody"}, "judge", 404),
        ({"forget": ["file-none"], "against": "some/other"}, "forget[0]", 400),
        ({"limit": 0}, "limit", 400),
        ({"limit": "all"}, "limit", 400),
        ({"max_score_loss": 2}, "max_score_loss", 400),
        ({"metadata": {"k": "v" * 513}}, "metadata", 400),
    ],
)
def test_refusals(
    http: httpx2.Client, file: str, fields: dict[str, Any], param: str, status: int
) -> None:
    answer = http.post(PATH, json={"model": "fake", "file": file, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert error["message"].startswith(param)


def test_pages(http: httpx2.Client, file: str) -> None:
    ids = [
        create(http, model="fake", file=file, metadata={"of": "pages", "n": str(n % 2)})["id"]
        for n in range(5)
    ]
    for id in ids:
        http.post(f"{PATH}/{id}/cancel")
    page = http.get(PATH, params={"limit": 2, "metadata[of]": "pages"}).json()
    assert [each["id"] for each in page["data"]] == ids[:2:-1] and page["has_more"]
    page = http.get(PATH, params={"limit": 9, "metadata[of]": "pages", "after": ids[3]}).json()
    assert [each["id"] for each in page["data"]] == ids[2::-1] and not page["has_more"]
    events = http.get(f"{PATH}/{ids[0]}/events", params={"limit": 1}).json()
    assert events["has_more"] and events["data"][0]["object"] == "evaluation.event"
    assert http.get(PATH, params={"limit": -1}).status_code == 400
    assert http.get(PATH, params={"after": "eval-none"}).json()["error"]["param"] == "after"


def test_other_kinds_of_jobs_are_not_there(live: Live, http: httpx2.Client, file: str) -> None:
    job = live.sdk().fine_tuning.jobs.create(model="fake", training_file=file).id
    evaluation = create(http, model="fake", file=file)["id"]
    asks: list[Callable[[str, str], httpx2.Response]] = [
        lambda path, id: http.get(f"{path}/{id}"),
        lambda path, id: http.get(f"{path}/{id}/events"),
        *(
            lambda path, id, what=what: http.post(f"{path}/{id}/{what}")
            for what in ("pause", "resume", "cancel")
        ),
    ]
    for ask in asks:
        assert ask(PATH, job).status_code == ask(PATH, "eval-none").status_code == 404
        assert ask("/v1/fine_tuning/jobs", evaluation).status_code == 404
    listed = {each["id"] for each in http.get(PATH).json()["data"]}
    assert evaluation in listed and job not in listed
    live.sdk().fine_tuning.jobs.cancel(job)
    http.post(f"{PATH}/{evaluation}/cancel")
