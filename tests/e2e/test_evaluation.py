"""What is evaluated is what is served: the same rows in this process and over HTTP."""

import json
import math
from pathlib import Path
from typing import Any

import httpx2
import pytest

from firefront import LLM, SamplingParams
from firefront.core.errors import RequestError
from firefront.tuning.evaluation.evaluate import EvalSpec, run_evaluation
from firefront.tuning.evaluation.record import EvalRecord
from tests.adapter_files import random_adapter
from tests.e2e.served import Served
from tests.gateway.live import wait_for

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}},
            "required": ["city"],
        },
    },
}


def row(question: str, tools: list[Any] | None = None, **answer: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", **answer}]
    return {"messages": messages, **({"tools": tools} if tools else {})}


def call(city: str) -> list[dict[str, Any]]:
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return [{"id": "c", "type": "function", "function": function}]


ROWS = {
    "labels": [
        row(f"Say yes or no: is {place} in Europe?", content=answer)
        for place, answer in (("Rome", "yes"), ("Lima", "no"), ("Oslo", "yes"), ("Cairo", "no"))
    ],
    "objects": [row("The capital of France as JSON", content='{"city": "Paris", "size": 2}')],
    "calls": [
        row(f"The weather in {city}?", [TOOL], tool_calls=call(city)) for city in ("Rome", "Lima")
    ],
}


@pytest.mark.parametrize(
    ("name", "is_constrained"),
    [("labels", True), ("objects", True), ("calls", False), ("calls", True)],
)
def test_answers_are_the_servers(
    live: Served, starter_path: Path, tmp_path: Path, name: str, is_constrained: bool
) -> None:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in ROWS[name]))
    fields: dict[str, Any] = {"data": str(path), "is_constrained": is_constrained}
    here = run_evaluation(EvalSpec(model=f"file:{starter_path}", threads=1, **fields))
    there = run_evaluation(EvalSpec(model=live.name, url=live.url, streams=2, **fields))
    assert here.kind == there.kind
    for own, served in zip(here.model.outcomes, there.model.outcomes, strict=True):
        assert (own.answer, own.score, own.is_cut) == (served.answer, served.score, served.is_cut)
        assert (own.num_prompt, own.num_output) == (served.num_prompt, served.num_output)
        assert own.error is None and own.latency_s > 0
    assert here.model.report == there.model.report
    if is_constrained:
        metrics = here.model.report.metrics
        assert metrics.get("no_label", 0) == 0 and metrics.get("valid_schema", 1) == 1


def test_likelihoods(live: Served, starter_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The sky is blue because of the air.\nGrass is green.\n")
    here = run_evaluation(EvalSpec(data=str(text), model=f"file:{starter_path}", threads=1))
    there = run_evaluation(EvalSpec(data=str(text), model=live.name, url=live.url))
    assert here.model.report.metrics == pytest.approx(there.model.report.metrics)

    # Of rows: the tokens of the answer alone, as the trainer's loss has them.
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(ROWS["labels"][0]) + "\n")
    spec = EvalSpec(data=str(rows), model=f"file:{starter_path}", kind="perplexity", threads=1)
    found = run_evaluation(spec).model
    llm = LLM(f"file:{starter_path}", threads=1)
    tokenizer = llm.get_tokenizer()
    messages = ROWS["labels"][0]["messages"]
    prompt = tokenizer.encode_chat(messages[:1])
    answer = [*tokenizer.encode("yes", False), *tokenizer.encode("<|im_end|>", parse_special=True)]
    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    (result,) = llm.generate([prompt + answer], params)
    assert result.prompt_logprobs is not None
    logprobs = [
        entry[token].logprob
        for entry, token in zip(result.prompt_logprobs[-len(answer) :], answer, strict=True)
        if entry is not None
    ]
    assert len(logprobs) == len(answer) == 2
    assert found.outcomes[0].score == pytest.approx(sum(logprobs) / 2)
    assert found.report.metrics["perplexity"] == pytest.approx(math.exp(-sum(logprobs) / 2))


def assert_a_job_finds_the_same(live: Served, rows: Path, here: EvalRecord) -> None:
    """The same evaluation as a job of the server, with a text that must not be forgotten."""
    sdk, http = live.sdk(), live.http()
    file = sdk.files.create(file=("rows.jsonl", rows.read_bytes()), purpose="evals").id
    sky = ("sky.txt", b"The sky is blue.\nGrass is green.\n")
    text = sdk.files.create(file=sky, purpose="evals")
    body = {
        "model": f"{live.name}:odd", "against": "base", "file": file, "forget": [text.id],
        "max_perplexity_rise": 0.01,
    }  # fmt: skip
    made = http.post("/v1/firefront/evaluations", json=body).json()
    path = f"/v1/firefront/evaluations/{made['id']}"
    job = wait_for(lambda: job if (job := http.get(path).json())["finished_at"] else None, 240)
    assert job["status"] == "succeeded", job["error"]
    results = job["results"]
    assert here.against is not None
    for name, own in (("model", here.model), ("against", here.against)):
        assert results[name]["metrics"] == own.report.metrics
        assert results[name]["costs"]["num_output"] == own.costs.num_output
    assert results["model"]["name"] == f"{live.name}:odd"
    assert results["against"]["name"] == live.name
    (probe,) = results["probes"]
    assert probe["name"] == "sky.txt" and probe["max_rise"] == 0.01
    assert results["decision"]["is_promoted"] is False and results["decision"]["reasons"]
    record = json.loads(sdk.files.content(job["result_files"][0]).content)
    assert [outcome["answer"] for outcome in record["model"]["outcomes"]] == [
        outcome.answer for outcome in here.model.outcomes
    ]
    assert f"Evaluation of {live.name}:odd" in sdk.files.content(job["result_files"][1]).text
    told = [each["message"] for each in http.get(f"{path}/events?limit=100").json()["data"]]
    assert any(message.startswith(f"{live.name}:odd, rows.jsonl: 4 of 4") for message in told)
    assert told[0] == f"{live.name}:odd may not take the place of {live.name}"
    assert wait_for(lambda: not list((live.home / "jobs").glob("*/eval-*")))


def test_an_adapter_against_its_base(live: Served, starter_path: Path, tmp_path: Path) -> None:
    folder = random_adapter(starter_path, tmp_path / "odd")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in ROWS["labels"]))
    loaded = httpx2.post(
        f"{live.url}/v1/load_lora_adapter",
        json={"lora_name": "odd", "lora_path": str(folder)},
        timeout=60,
    )
    assert loaded.status_code == 200, loaded.text
    fields: dict[str, Any] = {"data": str(path), "against": "base"}
    model = f"file:{starter_path}"
    here = run_evaluation(EvalSpec(model=model, adapter=str(folder), threads=1, **fields))
    there = run_evaluation(EvalSpec(model=live.name, adapter="odd", url=live.url, **fields))
    assert here.against and there.against and here.comparison == there.comparison
    for own, served in ((here.model, there.model), (here.against, there.against)):
        assert [o.answer for o in own.outcomes] == [o.answer for o in served.outcomes]
        assert own.costs.num_failed == served.costs.num_failed == 0
    said = [[o.answer for o in result.outcomes] for result in (here.model, here.against)]
    assert said[0] != said[1]
    assert here.model.name.endswith(":odd") and there.model.name == f"{live.name}:odd"
    assert_a_job_finds_the_same(live, path, here)
    (folder / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(RequestError, match="adapter odd"):
        run_evaluation(EvalSpec(model=model, adapter=str(folder), **fields))
