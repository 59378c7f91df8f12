"""Evaluations that are jobs: killed, paused, cancelled, beside a training. The asking is played."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firefront.core.errors import RequestError
from firefront.store.job_log import Entry
from firefront.store.jobs import Lease, StoredJob
from firefront.tuning.evaluation.evaluate import Event
from firefront.tuning.evaluation.record import EvalRecord
from firefront.tuning.jobs import evaluation_work
from firefront.tuning.jobs.evaluation import KIND, EvaluationRequest, checked, create_evaluation
from firefront.tuning.jobs.folder import alone_in
from firefront.tuning.jobs.reporter import Reporter
from tests.store.inside import add_account, add_file
from tests.tuning.jobs.conftest import World
from tests.tuning.jobs.fake_evaluation import evaluate


def content(world: World, file_id: str) -> tuple[str, bytes]:
    file, content = world.store.files.open("local", file_id)
    with content:
        assert file.purpose == "evaluation-results"
        return file.filename, content.read()


def add_adapter(world: World, name: str = "mine") -> Path:
    """An adapter's row, and a folder for its files."""
    digest = "ab" * 32
    world.store.adapters.create("local", name=name, base="m", rank=4, targets=[], sha256=digest)
    folder = world.store.adapter_folder / digest
    folder.mkdir(parents=True)
    return folder


def work_here(world: World, job: StoredJob, ask: Callable[..., Any] = evaluate) -> StoredJob:
    """Do the work in this process."""
    fields: dict[str, Any] = {"kind": KIND, "statuses": ["queued"], "models": ["m"], "for_s": 99}
    leased = world.store.jobs.lease("me", **fields)
    assert leased is not None and leased.id == job.id
    lease = Lease("local", job.id, "me")
    reporter = Reporter(world.store, lease)
    reporter.start()
    try:
        with alone_in(world.store.job_folder / job.id):
            models = {"m": str(world.model)}
            evaluation_work.work_on(world.store, lease, leased, reporter, models, ask)
    finally:
        reporter.close()
    return world.get(job)


def test_what_comes_of_it(world: World) -> None:
    add_adapter(world)
    rows = add_file(world.store, b'{"messages": []}\n' * 30, filename="r.jsonl", purpose="evals")
    request = EvaluationRequest(model="m:mine", against="base", file=rows.id)
    job = create_evaluation(world.store, "local", "m", request, {"team": "a"})
    assert job.id.startswith("eval-") and (job.kind, job.status) == ("evaluation", "queued")
    job = work_here(world, job)
    assert job.status == "succeeded", job.error
    outcome = job.outcome
    assert outcome["decision"] == {"is_promoted": True, "reasons": []} and outcome["is_made"]
    assert (outcome["main"], outcome["kind"], outcome["num_rows"]) == ("accuracy", "exact", 30)
    assert outcome["model"]["name"] == "m:mine" and outcome["against"]["name"] == "m"
    assert outcome["model"]["metrics"] == {"accuracy": 1.0}
    assert outcome["model"]["costs"]["tokens_per_row"] == 2
    assert outcome["comparison"]["verdict"] == "better" and outcome["probes"] == []
    (name, data), (page_name, page) = (content(world, id) for id in outcome["result_files"])
    record = msgspec.json.decode(data, type=EvalRecord)
    assert (name, page_name) == ("evaluation.json", "report.html")
    assert record.data.name == "r.jsonl" and b"Evaluation of m:mine" in page
    said = world.events(job)
    assert said[:2] == ["Created evaluation", "Evaluation started"]
    assert said[-2:] == [
        "accuracy on 30 rows: 1.0000 by m:mine, 0.0000 by m: better",
        "m:mine may take the place of m",
    ]
    assert "right, rows: 30 of 30" in said and str(world.home) not in " ".join(said)


def test_killed_it_begins_again(world: World) -> None:
    job = world.evaluation(100)

    async def run() -> StoredJob:
        async with world.running() as runner:
            await world.until(lambda: world.evaluated)
            await asyncio.sleep(random.uniform(0, 0.7))
            for process in runner._processes:
                with suppress(ProcessLookupError):  # dead already
                    os.kill(process.pid, signal.SIGKILL)
            return await world.ended(job)

    ended = asyncio.run(run())
    assert ended.status == "succeeded"
    assert len(world.evaluated) == 3 and world.evaluated[-1] == "ended"
    said = world.events(job)
    assert len(set(said)) == len(said) and len(said) < 30
    assert said[-1] == "accuracy on 100 rows: 1.0000 by m" and world.deployed == {}
    assert ended.outcome["decision"] is None and ended.outcome["against"] is None


def test_a_record_is_not_made_again(world: World) -> None:
    done = work_here(world, world.evaluation())
    again = world.evaluation()
    folder = world.store.job_folder / again.id
    folder.mkdir(parents=True)
    _, record = content(world, done.outcome["result_files"][0])
    (folder / "evaluation.json").write_bytes(record)
    again = work_here(world, again)
    assert again.status == "succeeded" and len(world.evaluated) == 2
    assert content(world, again.outcome["result_files"][0])[1] == record


def test_an_adapter_that_is_removed_meanwhile(world: World) -> None:
    """Its files are the job's too, until the job has ended."""
    folder = add_adapter(world)
    (folder / "adapter_config.json").write_text("{}")

    def ask(spec: Any, **options: Any) -> EvalRecord:
        shutil.rmtree(folder)
        (file,) = Path(spec.against_adapter).iterdir()
        assert file.read_text() == "{}" and Path(spec.against_adapter).name == folder.name
        return evaluate(spec, **options)

    job = work_here(world, world.evaluation(against="m:mine"), ask)
    assert job.status == "succeeded" and job.outcome["against"]["name"] == "m:mine"


def test_pause_resume_restart_and_cancel(world: World) -> None:
    job = world.evaluation(200)
    jobs = world.store.jobs

    async def run() -> None:
        async with world.running() as runner:
            await world.until(lambda: world.get(job).outcome.get("progress", {}).get("done"))
            jobs.pause("local", job.id, Entry(message="paused"))
            runner.wake()
            await world.until(lambda: world.get(job).lease_owner is None)
            jobs.resume("local", job.id, Entry(message="resumed"))
            runner.wake()
            await world.until(lambda: len(world.evaluated) == 2)
        left = world.get(job)
        assert (left.status, left.lease_owner, left.num_deaths) == ("queued", None, 0)
        async with world.running() as runner:
            await world.until(lambda: len(world.evaluated) == 3)
            jobs.cancel("local", job.id, Entry(message="cancelled"))
            runner.wake()
            await world.until(lambda: not runner._processes)
            await world.until(lambda: not list(world.store.job_folder.glob("*")))

    asyncio.run(run())
    assert world.get(job).status == "cancelled"
    assert all(line.startswith("begun") for line in world.evaluated)
    assert world.store.files.list("local", purpose="evaluation-results").items == []


def test_it_does_not_wait_behind_a_training(world: World) -> None:
    (world.model / "hold").touch()
    training = world.job()

    async def run() -> StoredJob:
        async with world.running():
            await world.until(lambda: (world.model / "threads").exists())
            ended = await world.ended(world.evaluation())
            assert world.get(training).status == "running"
            world.store.jobs.cancel("local", training.id, Entry(message="enough"))
            return ended

    assert asyncio.run(run()).status == "succeeded"


@pytest.mark.parametrize(
    ("how", "param", "words"),
    [
        ("bad", "file", "my_colours.txt.jsonl: line 3 is none"),
        ("line", "file", "my_colours.txt.jsonl: line 3: the answer is no object"),
        ("constrain", "is_constrained", "is_constrained: some rows call no tool"),
        ("forget", "forget[0]", "2-my_colours.txt.jsonl: line 3 is none"),
        ("file", "file", "was deleted"),
        ("adapter", "against", "has no adapter 'mine'"),
        ("base", "against", "other is not served here; served: m"),
    ],
)
def test_what_goes_wrong_names_the_field(
    world: World, how: str, param: str, words: str
) -> None:
    (world.model / how).touch()
    fields: dict[str, Any] = {"against": {"adapter": "m:mine", "base": "other"}.get(how)}
    if how == "adapter":
        add_adapter(world)
    elif how == "forget":
        same = add_file(world.store, b"{}", filename="my colours.txt.jsonl").id
        fields = {"against": "m", "model": "m:mine", "forget": [same]}
        add_adapter(world)
    job = world.evaluation(**fields)
    if how == "file":
        world.store.files.delete("local", job.request["file"])
    elif how == "adapter":
        world.store.adapters.delete("local", world.store.adapters.find("local", "m", "mine").id)
    with pytest.raises(RequestError) as raised:
        work_here(world, job)
    assert raised.value.param == param and words in raised.value.message
    assert str(world.home) not in raised.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"against": "m"}, "against"),
        ({"limit": 0}, "limit"),
        ({"seed": -1}, "seed"),
        ({"forget": ["file-a"]}, "forget"),
        ({"forget": ["file-a"] * 5, "against": "n"}, "forget"),
        ({"kind": "graded"}, "judge"),
        ({"judge": "m"}, "judge"),
        ({"rubric": "Be kind."}, "rubric"),
        ({"kind": "graded", "judge": "m", "rubric": "x" * 20_000}, "rubric"),
        ({"kind": "graded", "judge": "m", "is_constrained": True}, "is_constrained"),
        ({"max_perplexity_rise": float("nan")}, "max_perplexity_rise"),
        ({"max_score_loss": 1.5}, "max_score_loss"),
    ],
)
def test_requests_are_checked(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as raised:
        checked(EvaluationRequest(**{"model": "m", "file": "file-a", **fields}))
    assert raised.value.param == param and raised.value.message.startswith(f"{param}: ")


def test_what_is_not_there(world: World) -> None:
    good = add_file(world.store, b"text").id
    empty = add_file(world.store, b"").id
    for fields, param in (
        ({"file": "file-none"}, "file"),
        ({"file": empty}, "file"),
        ({"model": "m:none"}, "model"),
        ({"against": "m:none"}, "against"),
        ({"against": "base"}, "against"),
        ({"against": "n", "forget": [good, "file-none"]}, "forget[1]"),
    ):
        request = EvaluationRequest(**{"model": "m", "file": good, **fields})
        with pytest.raises(RequestError) as raised:
            create_evaluation(world.store, "local", "m", request, {})
        assert raised.value.param == param and raised.value.message.startswith(f"{param}: ")
    foreign = add_file(world.store, b"text", account=add_account(world.store, "other")).id
    with pytest.raises(RequestError, match=f"file: no file '{foreign}'"):
        create_evaluation(
            world.store, "local", "m", EvaluationRequest(model="m", file=foreign), {}
        )


def test_progress_is_told_some_hundred_times_at_most() -> None:
    class Told:
        def __init__(self) -> None:
            self.keys: list[str] = []

        def metrics(self, message: str, data: dict[str, Any], *, key: str) -> None:
            self.keys.append(key)

        def note(self, **outcome: Any) -> None:
            assert outcome["progress"]["total"] > 0

    for total in (1, 19, 39, 10_007):
        told = Told()
        for done in range(total + 1):
            evaluation_work._tell(told, Event(stage="s", done=done, total=total))  # type: ignore[arg-type]
        assert told.keys[-1] == f"s {total}" and len(told.keys) == len(set(told.keys)) <= 41
