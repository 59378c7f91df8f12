"""A pipeline on a real server with a tiny model: rows to a version, its answers to more rows."""

import json
from typing import Any

import httpx2
import pytest

from tests.e2e.served import Served
from tests.gateway.live import wait_for
from tests.tuning.tiny_chat import colours

pytest.importorskip("torch")
URL = "/v1/firefront/pipelines"
LIMIT_S = 240


def upload(tiny: Served, rows: list[dict[str, Any]]) -> str:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return tiny.sdk().files.create(file=("colours.jsonl", content), purpose="fine-tune").id


def ended(http: httpx2.Client, url: str) -> dict[str, Any]:
    run = wait_for(
        lambda: run if (run := http.get(url).json())["finished_at"] is not None else None, LIMIT_S
    )
    assert run["status"] == "succeeded", run
    return dict(run)


def test_from_rows_to_a_version_and_on_from_its_traffic(tiny: Served) -> None:
    http, sdk = tiny.http(), tiny.sdk()
    base = sdk.models.list().data[0].id
    pipeline = http.post(
        URL,
        json={
            "model": base,
            "name": "colours",
            "data": {"file": upload(tiny, colours(60))},
            "tuning": {
                "seed": 1,
                "hyperparameters": {"n_epochs": 4, "learning_rate": 5e-3, "lora_rank": 8},
            },
            "evaluation": {"file": upload(tiny, colours(30, seed=9))},
            "canary": {"share": 0.5, "min_requests": 5},
        },
    ).json()
    model, url = pipeline["served_as"], f"{URL}/{pipeline['id']}"
    before = say(tiny, model, "abcdefgh grass")
    assert before.model == model and before.choices[0].message.content != "green"

    run = http.post(f"{url}/runs", json={}).json()
    wait_for(lambda: http.get(url).json()["trial"], LIMIT_S)
    prints = {say(tiny, model, "abcdefgh grass").system_fingerprint for _ in range(40)}
    assert len(prints) == 2 and before.system_fingerprint in prints
    run = ended(http, f"{url}/runs/{run['id']}")
    assert run["result"] == "promoted" and run["against"] == "base"
    assert [step["kind"] for step in run["steps"]] == [
        "data", "cleanse", "tune", "evaluate", "gate", "canary", "promote",
    ]  # fmt: skip
    assert run["canary"]["tried"]["requests"] >= 5 and not run["canary"]["tried"]["errors"]
    after = say(tiny, model, "abcdefgh grass")
    assert after.choices[0].message.content == "green" and after.model == model
    version = http.get(url).json()
    assert version["version"] == 1 and version["serves"] == run["steps"][2]["made"]["model"]
    assert "version of pipeline" in http.delete(f"/v1/models/{version['serves']}").text
    record = run["steps"][3]["made"]["result_files"][0]
    assert json.loads(sdk.files.content(record).text)["comparison"]["verdict"] == "better"

    # Back to the base and forth again, for whoever asks from then on.
    assert http.post(f"{url}/rollback", json={}).json()["serves"] == base
    assert say(tiny, model, "abcdefgh grass").system_fingerprint == before.system_fingerprint
    assert http.post(f"{url}/rollback", json={"version": 1}).json()["version"] == 1

    # Its answers, as rows for the next run, which is no better than itself.
    for row in colours(40, seed=3):
        say(tiny, model, row["messages"][0]["content"], store=True)
    changed = http.post(url, json={"data": {"traffic": {"model": model}}})
    assert changed.status_code == 200, changed.text
    second = http.post(f"{url}/runs", json={}).json()
    second = ended(http, f"{url}/runs/{second['id']}")
    assert second["result"] == "held_back" and second["against"] == version["serves"]
    data = second["steps"][0]["made"]  # an answer that was cut off is no row
    assert data["completions"] == 40 and data["rows"] > 30
    assert http.get(url).json()["version"] == 1

    # Made again, it is the same adapter, bit for bit, with the same verdict.
    replay = http.post(f"{url}/runs", json={"replay": run["id"]}).json()
    replay = ended(http, f"{url}/runs/{replay['id']}")
    same = f"It made the same adapter as {run['id']}, with the same decision."
    assert replay["reasons"] == [same]
    digests = {one["steps"][2]["made"]["sha256"] for one in (run, replay)}
    assert len(digests) == 1 and replay["result"] == "replayed"

    # A new server knows all of it.
    assert tiny.stop() == 0
    tiny.start()
    assert tiny.http().get(url).json()["version"] == 1
    assert say(tiny, model, "abcdefgh rose").choices[0].message.content == "red"


def say(tiny: Served, model: str, question: str, **fields: Any) -> Any:
    return tiny.sdk().chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=8,
        **fields,
    )
