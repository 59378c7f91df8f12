"""Pipelines over HTTP: made, changed, listed, refused; their models answer at once."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.gateway.fine_tuning.conftest import chat_rows, lines_of
from tests.gateway.live import Live, wait_for

URL = "/v1/firefront/pipelines"


@pytest.fixture
def http(live: Live) -> Iterator[httpx2.Client]:
    client = live.http()
    yield client
    for pipeline in client.get(URL, params={"limit": 100}).json()["data"]:
        for run in client.get(f"{URL}/{pipeline['id']}/runs").json()["data"]:
            if run["finished_at"] is None:
                client.post(f"{URL}/{pipeline['id']}/runs/{run['id']}/cancel")
        assert client.delete(f"{URL}/{pipeline['id']}").status_code == 200


@pytest.fixture
def create(live: Live, http: httpx2.Client) -> Callable[..., Any]:
    file = live.sdk().files.create(file=("a.jsonl", lines_of(chat_rows())), purpose="fine-tune")

    def create(**fields: Any) -> Any:
        body = {"model": "fake", "name": "intent", "data": {"file": file.id}, **fields}
        return http.post(URL, json=body)

    return create


def refused(answer: httpx2.Response) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["message"]


def test_its_model_answers_at_once(live: Live, http: httpx2.Client, create: Any) -> None:
    made = create(canary={"share": 0.1}, metadata={"team": "a"}).json()
    assert made["object"] == "pipeline" and made["id"].startswith("pipe-")
    assert made["served_as"] == "fake:intent" and made["serves"] == "fake"
    assert made["canary"] == {"share": 0.1, "min_requests": 100, "max_s": 86400}
    assert made["version"] is None and made["versions"] == [] and made["trial"] is None
    assert http.get(f"{URL}/{made['id']}").json() == made
    for name in ("fake:intent", "intent"):
        answer = live.sdk().chat.completions.create(
            model=name, messages=[{"role": "user", "content": "SAY yes STOP"}]
        )
        assert answer.model == "fake:intent" and answer.choices[0].message.content
        assert http.get(f"/v1/models/{name}").json()["id"] == "fake:intent"
    card = next(one for one in http.get("/v1/models").json()["data"] if one["id"] == "fake:intent")
    assert card["parent"] == "fake" and card["pipeline"] == {"id": made["id"], "version": None}
    assert "delete /v1/firefront/pipelines/pipe-" in refused(
        http.delete("/v1/models/fake:intent")
    )[2]


def test_changed_for_the_runs_to_come(http: httpx2.Client, create: Any) -> None:
    made = create(tuning={"seed": 3}).json()
    url = f"{URL}/{made['id']}"
    changed = http.post(url, json={"canary": {"share": 0.5, "min_requests": 7}}).json()
    assert changed == {**made, "canary": {"share": 0.5, "min_requests": 7, "max_s": 86400}}
    assert http.get(url).json() == changed
    wrong = http.post(url, json={"canary": {"share": 2}})
    assert refused(wrong)[:2] == (400, "canary.share")
    assert http.get(url).json() == changed


def test_a_run_and_its_end(http: httpx2.Client, create: Any) -> None:
    url = f"{URL}/{create().json()['id']}/runs"
    run = http.post(url, json={}).json()
    assert run["object"] == "pipeline.run" and run["status"] == "queued"
    assert run["definition"]["data"]["file"] and run["result"] is None
    again = http.post(url, json={})
    assert again.status_code == 400 and "has not ended" in again.json()["error"]["message"]
    assert http.delete(url.removesuffix("/runs")).json()["error"]["code"] == "run_in_progress"
    run = wait_for(
        lambda: one if len((one := http.get(f"{url}/{run['id']}").json())["steps"]) > 1 else None
    )
    assert run["steps"][0]["kind"] == "data" and run["steps"][0]["status"] == "succeeded"
    run = wait_for(
        lambda: one if (one := http.get(f"{url}/{run['id']}").json())["finished_at"] else None,
        limit_s=60,
    )
    assert run["status"] == "failed"  # there is nothing to train here
    assert {step["status"] for step in run["steps"]} == {"succeeded", "failed"}
    events = http.get(f"{url}/{run['id']}/events", params={"order": "asc"}).json()["data"]
    assert [event["message"] for event in events][:2] == ["Created run", "data: succeeded"]
    listed = http.get(url).json()
    assert [one["id"] for one in listed["data"]] == [run["id"]] and not listed["has_more"]
    made_none = http.post(url.replace("/runs", "/promote"), json={"run": run["id"]})
    assert refused(made_none)[:2] == (400, "run")
    second = http.post(url, json={}).json()
    assert http.post(f"{url}/{second['id']}/cancel").json()["status"] == "cancelled"
    assert http.post(f"{url}/{second['id']}/cancel").json()["error"]["code"] == "invalid_job_status"


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"name": "a b"}, 400, "name"),
        ({"name": "ft-mine"}, 400, "name"),
        ({"name": "fake"}, 400, "name"),
        ({"data": {}}, 400, "data"),
        ({"data": {"traffic": {"limit": 0}}}, 400, "data.traffic.limit"),
        ({"data": {"traffic": {"method": "other"}}}, 400, "data.traffic.method"),
        (
            {
                "data": {"traffic": {"method": "supervised"}},
                "tuning": {"method": "dpo"},
                "evaluation": {"file": "x"},
            },
            400,
            "data.traffic.method",
        ),
        ({"data": {"traffic": {"scores": 1}}}, 400, "data.traffic.scores"),
        ({"data": {"files": "x"}}, 400, None),
        ({"canary": {"share": "x"}}, 400, "canary.share"),
        ({"evaluation": {"kind": "feeling"}}, 400, "evaluation.kind"),
        ({"tuning": {"hyperparameters": {"n_epoch": 3}}}, 400, None),
        ({"metadata": {"a": 1}}, 400, None),
    ],
)
def test_refusals(create: Any, fields: dict[str, Any], status: int, param: str | None) -> None:
    found = refused(create(**fields))
    assert found[0] == status and (param is None or found[1] == param), found


def test_names_are_one_model_s(http: httpx2.Client, create: Any) -> None:
    assert create().status_code == 200
    assert refused(create())[:2] == (400, "name")
    assert create(name="other").status_code == 200


def test_what_is_not_there(http: httpx2.Client, create: Any) -> None:
    url = f"{URL}/{create().json()['id']}"
    assert http.get(f"{URL}/pipe-x").status_code == 404
    assert http.post(f"{URL}/pipe-x/runs", json={}).status_code == 404
    assert http.get(f"{url}/runs/run-x").status_code == 404
    assert http.post(f"{url}/runs", json={"replay": "run-x"}).status_code == 404
    assert http.post(f"{url}/promote", json={"run": "run-x"}).status_code == 404
    assert refused(http.post(f"{url}/promote", json={}))[:2] == (400, "run")
    assert refused(http.post(f"{url}/rollback", json={}))[:2] == (400, "version")
    assert refused(http.post(f"{url}/rollback", json={"version": 4}))[:2] == (400, "version")
    assert http.post(f"{url}/rollback", json={"version": 0}).json()["version"] is None
