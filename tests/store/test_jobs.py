"""Jobs: one worker at a time, another's writing is refused, nothing is said twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firefront.core.errors import RequestError
from firefront.store.job_log import Checkpoint, Entry
from firefront.store.jobs import Lease, LeaseLostError, StoredJob
from firefront.store.store import Store
from tests.store.inside import add_job, at_once

HELD_S = 30
NOTE = Entry(message="asked")


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(open_store: Callable[..., Store], time: Time) -> Store:
    return open_store(now=time)


def take(store: Store, owner: str, **fields: Any) -> tuple[StoredJob, Lease] | None:
    fields = {"kind": "k", "statuses": ["queued", "running"], "models": ["m"], **fields}
    job = store.jobs.lease(owner, for_s=HELD_S, **fields)
    return None if job is None else (job, Lease(job.account_id, job.id, owner))


def messages(store: Store, id: str) -> list[str]:
    return [event.message for event in store.jobs.events("local", id, order="asc").items]


def test_a_job_from_begin_to_end(store: Store, time: Time) -> None:
    created = add_job(store, request={"x": "half \ud83d, NUL \x00"}, first=[Entry(message="new")])
    assert created.status == "queued" and created.id.startswith("job-")
    job, lease = take(store, "a")
    assert (job.id, job.status, job.lease_expires_at) == (created.id, "running", 1000 + HELD_S)
    metrics = Entry(message="Step 1", type="metrics", data={"step": 1}, key="step 1")
    checkpoint = Checkpoint(step=1, model="m:x", metrics={"valid_loss": 0.5})
    time.now_s += 10
    job = store.jobs.renew(
        lease, HELD_S, events=[metrics], checkpoints=[checkpoint], outcome={"trained_tokens": 5}
    )
    assert job.lease_expires_at == 1010 + HELD_S
    job = store.jobs.move(lease, "succeeded", events=[NOTE], outcome={"files": ["f"]})
    assert (job.status, job.finished_at, job.lease_owner) == ("succeeded", 1010, None)
    assert job.outcome == {"trained_tokens": 5, "files": ["f"]}
    assert store.jobs.get("local", job.id) == job
    assert messages(store, job.id) == ["new", "Step 1", "asked"]
    (kept,) = store.jobs.checkpoints("local", job.id).items
    assert (kept.step, kept.model, kept.metrics) == (1, "m:x", {"valid_loss": 0.5})
    assert take(store, "b") is None and store.jobs.unfinished() == set()


def test_the_oldest_that_fits_is_first(store: Store) -> None:
    first = add_job(store)
    add_job(store, model="other")
    add_job(store, kind="another")
    add_job(store, status="validating_files")
    second = add_job(store)
    assert take(store, "a")[0].id == first.id
    assert take(store, "b")[0].id == second.id
    assert take(store, "c") is None
    assert take(store, "c", models=["m", "other"], ids=[first.id]) is None
    assert take(store, "c", models=["m", "other"], ids=[]) is None
    validating = take(store, "c", statuses=["validating_files"])
    assert validating[0].status == "validating_files"
    assert take(store, "d", models=["m", "other"])[0].model == "other"


def test_a_lease_that_ran_out_is_anothers(store: Store, time: Time) -> None:
    add_job(store)
    _, old = take(store, "a")
    time.now_s += HELD_S
    assert take(store, "b") is None  # it ends after its last second
    time.now_s += 1
    job, new = take(store, "b")
    assert job.num_deaths == 1 and job.status == "running"
    for late in (
        lambda: store.jobs.renew(old, HELD_S, events=[NOTE]),
        lambda: store.jobs.move(old, "succeeded"),
    ):
        with pytest.raises(LeaseLostError):
            late()
    store.jobs.release(old)
    assert messages(store, job.id) == []
    assert store.jobs.renew(new, HELD_S).lease_owner == "b"
    assert store.jobs.renew(new, HELD_S, got_on=True).num_deaths == 0


def test_what_is_repeated_is_not_said_twice(store: Store) -> None:
    job = add_job(store)
    _, lease = take(store, "a")
    said = [Entry(message=f"Step {n}", key=f"step {n}") for n in range(3)]
    reached = [Checkpoint(step=n, model="x", metrics={}) for n in (1, 2)]
    store.jobs.renew(lease, HELD_S, events=said[:2], checkpoints=reached[:1])
    store.jobs.release(lease, has_died=True)
    again, lease = take(store, "b")
    assert (again.num_deaths, again.status) == (1, "running")
    store.jobs.renew(lease, HELD_S, events=said, checkpoints=reached)
    assert messages(store, job.id) == ["Step 0", "Step 1", "Step 2"]
    assert [c.step for c in store.jobs.checkpoints("local", job.id, order="asc").items] == [1, 2]
    add_job(store)
    _, other = take(store, "c")
    store.jobs.renew(other, HELD_S, events=said)  # another job has its own
    assert len(messages(store, other.job_id)) == 3


def test_pause_and_resume_while_a_worker_is_at_it(store: Store) -> None:
    job = add_job(store)
    _, lease = take(store, "a")
    assert store.jobs.pause("local", job.id, NOTE).status == "paused"
    with pytest.raises(RequestError, match="is paused and cannot be paused"):
        store.jobs.pause("local", job.id, NOTE)
    assert store.jobs.renew(lease, HELD_S).status == "paused"  # the worker is told
    assert store.jobs.resume("local", job.id, NOTE).status == "queued"
    assert take(store, "b") is None  # it still holds it
    assert store.jobs.renew(lease, HELD_S).status == "running"
    store.jobs.pause("local", job.id, NOTE)
    store.jobs.release(lease)
    assert take(store, "b") is None
    with pytest.raises(LeaseLostError):
        store.jobs.renew(lease, HELD_S)
    store.jobs.resume("local", job.id, NOTE)
    assert take(store, "b")[0].id == job.id
    with pytest.raises(RequestError, match="is running and cannot be resumed"):
        store.jobs.resume("local", job.id, NOTE)


def test_a_pause_while_files_are_validated(store: Store) -> None:
    job = add_job(store, status="validating_files")
    store.jobs.pause("local", job.id, NOTE)
    assert store.jobs.resume("local", job.id, NOTE).status == "validating_files"
    _, lease = take(store, "a", statuses=["validating_files"])
    store.jobs.pause("local", job.id, NOTE)
    assert store.jobs.move(lease, "queued").status == "paused"
    assert store.jobs.resume("local", job.id, NOTE).status == "queued"


def test_cancel(store: Store, time: Time) -> None:
    job = add_job(store)
    _, lease = take(store, "a")
    time.now_s += 5
    cancelled = store.jobs.cancel("local", job.id, NOTE)
    assert (cancelled.status, cancelled.finished_at) == ("cancelled", 1005)
    with pytest.raises(LeaseLostError):
        store.jobs.move(lease, "succeeded")
    store.jobs.release(lease)
    assert store.jobs.get("local", job.id).status == "cancelled"
    for ask in (store.jobs.cancel, store.jobs.pause, store.jobs.resume):
        with pytest.raises(RequestError, match="is cancelled and cannot be"):
            ask("local", job.id, NOTE)
    assert messages(store, job.id) == ["asked"]


def test_released_work_is_taken_up_again(store: Store) -> None:
    job = add_job(store)
    _, lease = take(store, "a")
    store.jobs.release(lease)
    assert store.jobs.get("local", job.id).status == "queued"
    again, _ = take(store, "a")
    assert (again.id, again.num_deaths) == (job.id, 0)


def test_a_failure_says_why(store: Store) -> None:
    add_job(store)
    _, lease = take(store, "a")
    error = {"code": "invalid_training_file", "message": "line 3", "param": "training_file"}
    job = store.jobs.move(lease, "failed", error=error)
    assert (job.status, job.error) == ("failed", error) and job.finished_at


def test_lists(store: Store) -> None:
    ids = [add_job(store, metadata={"n": str(n % 2), "of": "x"}).id for n in range(5)]
    add_job(store, kind="another")
    page = store.jobs.list("local", kind="k", limit=2)
    assert [job.id for job in page.items] == ids[:2:-1] and page.has_more
    page = store.jobs.list("local", kind="k", after=ids[3], limit=5)
    assert [job.id for job in page.items] == ids[2::-1] and not page.has_more
    even = store.jobs.list("local", kind="k", limit=2, metadata={"n": "0", "of": "x"})
    assert [job.id for job in even.items] == [ids[4], ids[2]] and even.has_more
    rest = store.jobs.list("local", kind="k", limit=2, metadata={"n": "0"}, after=ids[2])
    assert [job.id for job in rest.items] == [ids[0]] and not rest.has_more
    assert store.jobs.list("local", kind="k", metadata={"n": "2"}).items == []


def test_not_too_many_at_once(store: Store) -> None:
    add_job(store, max_unfinished=2)
    second = add_job(store, max_unfinished=2)
    with pytest.raises(RequestError, match="2 jobs have not ended"):
        add_job(store, max_unfinished=2)
    store.jobs.cancel("local", second.id, NOTE)
    add_job(store, max_unfinished=2)


def test_many_workers_never_share_a_job(url: str | None, home: Path) -> None:
    """Each takes what it gets and says so in the job itself; every job was one worker's."""
    store = Store.open(url, home)
    ids = [add_job(store).id for _ in range(30)]
    store.close()

    def work(owner: str) -> Callable[[], None]:
        def run() -> None:
            store = Store.open(url, home)
            while (taken := take(store, owner)) is not None:
                job, lease = taken
                assert job.outcome == {}
                store.jobs.renew(lease, HELD_S, outcome={"by": owner})
                store.jobs.move(lease, "succeeded", events=[Entry(message=owner)])
            store.close()

        return run

    at_once([work(owner) for owner in "abc"])
    store = Store.open(url, home)
    for id in ids:
        job = store.jobs.get("local", id)
        assert job.status == "succeeded" and messages(store, id) == [job.outcome["by"]]
    store.close()
