"""Processes that work on jobs: killed, dying, failing, told to stop. The training is played."""

import asyncio
import dataclasses
import os
import random
import signal
from contextlib import suppress
from typing import Any

import pytest

from firefront.core.errors import RequestError
from firefront.fleet.jobs import sweep
from firefront.store.job_log import Entry
from firefront.store.jobs import Lease, StoredJob
from tests.tuning.jobs.conftest import LIMITS, World


def step_messages(world: World, job: StoredJob) -> list[str]:
    return [message for message in world.events(job) if message.startswith("Step ")]


def test_killed_anywhere_it_ends_the_same(world: World) -> None:
    async def run(kills: int) -> tuple[StoredJob, dict[str, bytes]]:
        world.deployed.clear()
        job = world.job()
        rng = random.Random(kills)
        often = dataclasses.replace(LIMITS, max_deaths=100)
        async with world.running(limits=often) as runner:
            for _ in range(kills):
                await world.until(lambda: runner._processes or world.get(job).finished_at)
                await asyncio.sleep(rng.uniform(0, 1.5))
                for process in runner._processes:
                    with suppress(ProcessLookupError):  # dead, and not yet taken note of
                        os.kill(process.pid, signal.SIGKILL)
            return await world.ended(job), dict(world.deployed)

    whole, expected = asyncio.run(run(0))
    killed, found = asyncio.run(run(6))
    assert whole.status == killed.status == "succeeded", killed.error
    assert list(found.values()) == list(expected.values())  # the same adapters, all of them whole
    assert step_messages(world, killed) == step_messages(world, whole)
    assert len(step_messages(world, whole)) == 60 + 20  # and an evaluation an epoch
    assert len(world.store.jobs.checkpoints("local", killed.id).items) == 3
    assert killed.outcome["fine_tuned_model"] == f"m:ft-{killed.id[6:14]}"
    assert killed.outcome["trained_tokens"] == 600


@pytest.mark.parametrize(
    ("when", "hyperparameters"),
    [
        ("die", {}),
        ("die_late", {"learning_rate": "auto", "n_epochs": 2}),  # after trials and an epoch
        ("die_saving", {}),
    ],
)
def test_one_that_always_dies_is_given_up(
    world: World, when: str, hyperparameters: dict[str, Any]
) -> None:
    (world.model / when).touch()
    job = world.job(**hyperparameters)

    async def run() -> StoredJob:
        async with world.running():
            return await world.ended(job)

    failed = asyncio.run(run())
    assert (failed.status, failed.error["code"]) == ("failed", "process_died")
    assert "died 2 times" in failed.error["message"]
    assert f"m:ft-{job.id[6:14]}" not in world.deployed  # its checkpoints may be


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("nan", "training_failed", "lines 3"),
        ("full", "storage_full", "free some space"),
        ("crash", "process_died", "died 2 times"),
    ],
)
def test_what_goes_wrong_is_said(world: World, how: str, code: str, words: str) -> None:
    (world.model / how).touch()
    job = world.job()

    async def run() -> StoredJob:
        async with world.running():
            return await world.ended(job)

    failed = asyncio.run(run())
    assert (failed.status, failed.error["code"]) == ("failed", code)
    assert words in failed.error["message"] and world.events(job)[-1] == failed.error["message"]
    if how == "crash":
        assert any("Internal error (ZeroDivisionError)" in line for line in world.events(job))


def test_a_store_that_is_busy_ends_no_job(world: World) -> None:
    (world.model / "busy").touch()
    job = world.job(n_epochs=1)

    async def run() -> StoredJob:
        async with world.running():
            return await world.ended(job)

    done = asyncio.run(run())
    assert done.status == "succeeded", done.error
    assert "the database is busy; the work is taken up again" in world.events(job)


def test_only_the_jobs_that_it_is_told_of(world: World) -> None:
    others, ids = world.job(n_epochs=1), []

    async def run() -> None:
        async with world.running(ids=ids) as runner:
            mine = world.job(n_epochs=1, use_rslora=True)
            ids.append(mine.id)
            runner.wake()
            assert (await world.ended(mine)).status == "succeeded"

    asyncio.run(run())
    assert world.get(others).status == "validating_files"
    assert {config["use_rslora"] for config in world.configs.values()} == {True}


def test_pause_resume_and_cancel_reach_the_process(world: World) -> None:
    job = world.job(n_epochs=50)

    async def run() -> None:
        jobs = world.store.jobs
        async with world.running() as runner:
            await world.until(lambda: step_messages(world, job))
            jobs.pause("local", job.id, Entry(message="paused"))
            runner.wake()
            await world.until(lambda: world.get(job).lease_owner is None)
            num_steps = len(step_messages(world, job))
            await asyncio.sleep(0.3)
            assert len(step_messages(world, job)) == num_steps
            jobs.resume("local", job.id, Entry(message="resumed"))
            runner.wake()
            await world.until(lambda: len(step_messages(world, job)) > num_steps)
            jobs.cancel("local", job.id, Entry(message="cancelled"))
            runner.wake()
            await world.until(lambda: not runner._processes)
            await world.until(lambda: not list(world.store.job_folder.glob("*")))

    asyncio.run(run())
    assert world.get(job).status == "cancelled" and world.deployed == {}
    assert world.get(job).num_deaths == 0


def test_a_process_that_does_not_obey_is_killed(world: World) -> None:
    (world.model / "deaf").touch()
    job = world.job(n_epochs=50)

    async def run() -> None:
        async with world.running() as runner:
            await world.until(lambda: step_messages(world, job))
            world.store.jobs.cancel("local", job.id, Entry(message="cancelled"))
            await world.until(lambda: not runner._processes)

    asyncio.run(run())
    assert world.get(job).status == "cancelled"


def test_the_end_of_the_server_is_a_pause(world: World) -> None:
    job = world.job()

    async def run() -> StoredJob:
        async with world.running():
            await world.until(lambda: step_messages(world, job))
        left = world.get(job)
        assert (left.status, left.lease_owner, left.num_deaths) == ("queued", None, 0)
        async with world.running():
            return await world.ended(job)

    assert asyncio.run(run()).status == "succeeded"
    steps = step_messages(world, job)
    assert len(set(steps)) == len(steps) == 80


def test_what_was_made_is_deployed_by_the_next_server(world: World) -> None:
    """A server that died between the two: nothing is trained again."""
    job = world.job()

    async def run() -> StoredJob:
        async with world.running() as runner:
            runner._finish = lambda *args: asyncio.sleep(0)  # type: ignore[method-assign]
            made = await world.until(
                lambda: now if (now := world.get(job)).outcome.get("is_made") else None
            )
        world.store.jobs.release(_lease(made))
        async with world.running(command=("/bin/false",)):
            return await world.ended(job)

    ended = asyncio.run(run())
    assert ended.status == "succeeded" and len(world.deployed) == 4


def test_a_model_that_cannot_be_served_fails_the_job(world: World) -> None:
    world.refuses = RequestError("does not fit the base", code="invalid_model_file")
    job = world.job()

    async def run() -> StoredJob:
        async with world.running():
            return await world.ended(job)

    failed = asyncio.run(run())
    assert (failed.status, failed.error["code"]) == ("failed", "invalid_model_file")


def test_one_thread_while_requests_run(world: World) -> None:
    world.is_busy = True
    job = world.job(n_epochs=50)

    async def run() -> None:
        told = world.model / "threads"
        async with world.running():
            await world.until(lambda: told.exists() and told.read_text())
            assert set(told.read_text().split()) == {"1"}
            world.is_busy = False
            most = str(len(os.sched_getaffinity(0)))
            await world.until(lambda: told.read_text().split()[-1] == most)
            world.is_busy = True
            await world.until(lambda: told.read_text().split()[-1] == "1")
            world.store.jobs.cancel("local", job.id, Entry(message="enough"))

    asyncio.run(run())


def test_a_folder_in_use_is_not_swept(world: World) -> None:
    import fcntl

    folder = world.store.job_folder / "ftjob-gone"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(world.store)
        assert folder.exists()
    sweep(world.store)
    assert not folder.exists()


def _lease(job: StoredJob) -> Lease:
    return Lease(job.account_id, job.id, job.lease_owner or "")
