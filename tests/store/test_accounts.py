"""What is another account's does not exist, whatever one does with its id."""

from collections.abc import Callable

import pytest

from firefront.core.errors import NotFoundError
from firefront.store.job_log import Entry
from firefront.store.store import Store
from tests.store.inside import (
    add_account,
    add_adapter,
    add_completion,
    add_file,
    add_job,
    add_pipeline,
    add_response,
)


def _uses(store: Store) -> dict[str, Callable[[str, str], object]]:
    files, completions, responses = store.files, store.completions, store.responses
    adapters, pipelines = store.adapters, store.pipelines
    jobs, note = store.jobs, Entry(message="x")
    return {
        "files.get": files.get,
        "files.open": files.open,
        "files.delete": files.delete,
        "files.list": lambda account, id: files.list(account, after=id),
        "completions.get": completions.get,
        "completions.delete": completions.delete,
        "completions.set_metadata": lambda a, id: completions.set_metadata(a, id, {"x": "y"}),
        "completions.list": lambda account, id: completions.list(account, after=id),
        "responses.get": responses.get,
        "responses.delete": responses.delete,
        "responses.update": lambda a, id: responses.update(a, id, status="x", response={}),
        "responses.list": lambda account, id: responses.list(account, after=id),
        "adapters.get": adapters.get,
        "adapters.find": lambda account, id: adapters.find(account, "base", id),
        "adapters.delete": adapters.delete,
        "adapters.retire": adapters.retire,
        "adapters.list": lambda account, id: adapters.list(account, after=id),
        "pipelines.get": pipelines.get,
        "pipelines.set_state": lambda account, id: pipelines.set_state(account, id, {}),
        "pipelines.set_definition": lambda a, id: pipelines.set_definition(a, id, {}),
        "pipelines.delete": pipelines.delete,
        "pipelines.list": lambda account, id: pipelines.list(account, bases=["base"], after=id),
        "jobs.get": jobs.get,
        "jobs.list": lambda account, id: jobs.list(account, kind="k", after=id),
        "jobs.pause": lambda account, id: jobs.pause(account, id, note),
        "jobs.resume": lambda account, id: jobs.resume(account, id, note),
        "jobs.cancel": lambda account, id: jobs.cancel(account, id, note),
        "jobs.events": jobs.events,
        "jobs.checkpoints": jobs.checkpoints,
    }


def test_every_method_that_takes_an_id_is_tried(store: Store) -> None:
    public = {
        f"{name}.{method}"
        for name in ("files", "completions", "responses", "adapters", "jobs", "pipelines")
        for method in dir(getattr(store, name))
        if not method.startswith("_")
    }
    leased = {"lease", "renew", "move", "release"}  # by workers, who serve all accounts
    without_id = {"incoming", "create", "purge_expired", "sweep", "serving", "digests", "all"}
    without_id |= {"is_needed", "unfinished"} | leased
    assert {use for use in public if use.partition(".")[2] not in without_id} == set(_uses(store))


def test_foreign_ids_are_not_found(store: Store) -> None:
    other = add_account(store, "other")
    ids = {"files": add_file(store, b"x").id, "completions": "c", "responses": "r", "adapters": "a"}
    ids |= {"jobs": add_job(store).id, "pipelines": add_pipeline(store).id}
    add_completion(store, "c", metadata={"k": "v"})
    add_response(store, "r")
    add_adapter(store, "a", id="a")
    for name, use in _uses(store).items():
        with pytest.raises(NotFoundError):
            use(other, ids[name.partition(".")[0]])
    assert store.files.list(other).items == []
    assert store.completions.list(other, metadata={"k": "v"}).items == []
    assert store.responses.list(other).items == []
    assert store.adapters.list(other).items == []
    assert store.jobs.list(other, kind="k").items == []
    assert store.pipelines.list(other, bases=["base"]).items == []
    assert store.pipelines.get("local", ids["pipelines"]).state == {"version": 1}
    assert store.jobs.get("local", ids["jobs"]).status == "queued"
    assert store.completions.get("local", "c").metadata == {"k": "v"}
    assert store.responses.get("local", "r").status == "in_progress"
    assert store.files.get("local", ids["files"])
    assert store.adapters.find("local", "base", "a").state == "serving"


def test_accounts_may_use_the_same_ids(store: Store) -> None:
    other = add_account(store, "other")
    for account in ("local", other):
        add_completion(store, "same", account, metadata={"of": account})
        add_response(store, "same", account, model=account)
        add_file(store, account.encode(), account, id="same")
        add_adapter(store, "same", account, id="same", base_sha256=account)
    assert store.completions.list(other, metadata={"of": "local"}).items == []
    assert store.completions.get(other, "same").metadata == {"of": other}
    assert store.responses.get("local", "same").model == "local"
    assert store.adapters.find("local", "base", "same").base_sha256 == "local"
    store.files.delete(other, "same")
    assert store.files.open("local", "same")[1].read() == b"local"
