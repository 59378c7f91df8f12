"""A tiny model tuned by the official SDK on a real server: trainer, engine, evaluation, canary."""

import csv
import io
import json
import time
from typing import Any

import openai
import pytest

from tests.e2e.served import Served
from tests.gateway.live import wait_for
from tests.tuning.tiny_chat import colours

pytest.importorskip("torch")
ENDED = ("succeeded", "failed", "cancelled")
LIMIT_S = 240


def upload(sdk: openai.OpenAI, rows: list[dict[str, Any]]) -> str:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return sdk.files.create(file=("colours.jsonl", content), purpose="fine-tune").id


def ended(sdk: openai.OpenAI, id: str) -> Any:
    def look() -> Any:
        job = sdk.fine_tuning.jobs.retrieve(id)
        return job if job.status in ENDED else None

    return wait_for(look, LIMIT_S)


def trained(events: list[Any], name: str) -> list[Any]:
    """A figure of each step that was told, in their order."""
    steps = [event for event in events if event.message.startswith("Step ")]
    return [event.data[name] for event in steps if "training loss" in event.message]


def said(sdk: openai.OpenAI, model: str, question: str) -> str:
    answer = sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=8,
    )
    return answer.choices[0].message.content


def test_from_a_file_to_an_answer(tiny: Served) -> None:
    sdk = tiny.sdk(_strict_response_validation=True)
    base = sdk.models.list().data[0].id
    job = sdk.fine_tuning.jobs.create(
        model=base,
        training_file=upload(sdk, colours(60)),
        suffix="colours",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
    )
    job = ended(sdk, job.id)
    events = list(sdk.fine_tuning.jobs.list_events(job.id, limit=100))[::-1]
    assert job.status == "succeeded", [event.message for event in events]
    assert job.fine_tuned_model == f"{base}:ft-colours-{job.id[6:14]}"
    assert job.trained_tokens > 1000 and job.finished_at >= job.created_at
    assert job.hyperparameters.n_epochs == 4 and job.hyperparameters.batch_size == 4

    # It answers at once, and otherwise than the base.
    assert said(sdk, job.fine_tuned_model, "abcdefgh grass") == "green"
    assert said(sdk, base, "abcdefgh grass") != "green"
    assert job.fine_tuned_model in [model.id for model in sdk.models.list().data]

    told = [event.message for event in events]
    for begin in ("Files validated", "Fine-tuning job started", "Chose r", "accuracy on 12 held"):
        assert sum(message.startswith(begin) for message in told) == 1, told
    assert told[-2:] == [
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    steps = trained(events, "step")
    assert steps == list(range(1, 49)) and len(set(told)) == len(told)

    result = job.result_files[0]
    assert sdk.files.retrieve(result).purpose == "fine-tune-results"
    lines = list(csv.DictReader(io.StringIO(sdk.files.content(result).text)))
    assert [int(line["step"]) for line in lines if line["train_loss"]] == steps
    assert "<h1>Tuning of" in sdk.files.content(job.result_files[1]).text

    checkpoints = list(sdk.fine_tuning.jobs.checkpoints.list(job.id))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [48, 36, 24]
    losses = [checkpoint.metrics.full_valid_loss for checkpoint in checkpoints]
    assert 0 < losses[0] < losses[-1] < 0.5  # it goes on learning
    for checkpoint in checkpoints:
        assert said(sdk, checkpoint.fine_tuned_model_checkpoint, "abcdefgh grass")
    assert not list((tiny.home / "jobs").glob("*/*"))  # nothing is left of it but its results


def test_dpo(tiny: Served) -> None:
    sdk = tiny.sdk()
    rows = [
        {
            "input": {"messages": row["messages"][:1]},
            "preferred_output": row["messages"][1:],
            "non_preferred_output": [{"role": "assistant", "content": "none"}],
        }
        for row in colours(30, seed=2)
    ]
    method: Any = {
        "type": "dpo",
        "dpo": {"hyperparameters": {"n_epochs": 2, "learning_rate": 1e-3, "beta": 0.1}},
    }
    job = sdk.fine_tuning.jobs.create(
        model=sdk.models.list().data[0].id, training_file=upload(sdk, rows), method=method
    )
    job = ended(sdk, job.id)
    assert job.status == "succeeded", job.error
    events = list(sdk.fine_tuning.jobs.list_events(job.id, limit=100))
    losses = trained(events, "train_loss")
    assert losses[0] < losses[-1]  # the newest is first
    assert said(sdk, job.fine_tuned_model, "abcdefgh sky") is not None


def test_pause_resume_and_a_restart(tiny: Served) -> None:
    """Paused, it stays so while the server is started anew; resumed, it goes on and ends."""
    sdk = tiny.sdk()
    jobs = sdk.fine_tuning.jobs
    method: Any = {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 15, "learning_rate": 2e-3}},
    }
    job = jobs.create(
        model=sdk.models.list().data[0].id, training_file=upload(sdk, colours(60)), method=method
    )
    wait_for(
        lambda: any(e.message.startswith("Step ") for e in jobs.list_events(job.id, limit=10).data),
        LIMIT_S,
    )
    assert jobs.pause(job.id).status == "paused"
    assert tiny.stop() == 0
    tiny.start()
    sdk = tiny.sdk()
    jobs = sdk.fine_tuning.jobs
    time.sleep(1)
    assert jobs.retrieve(job.id).status == "paused"
    assert jobs.resume(job.id).status == "queued"
    wait_for(lambda: jobs.retrieve(job.id).status == "running", LIMIT_S)
    job = ended(sdk, job.id)
    assert job.status == "succeeded", job.error
    events = list(jobs.list_events(job.id, limit=100))[::-1]
    steps = trained(events, "step")
    assert len(set(steps)) == len(steps) and steps == sorted(steps)
    assert said(sdk, job.fine_tuned_model, "abcdefgh rose") == "red"
