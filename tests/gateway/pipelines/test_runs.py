"""Runs of pipelines: every way they can end, whoever takes them up. Jobs are played."""

import asyncio
from pathlib import Path

import pytest

from firefront.core.errors import NotFoundError, OverloadedError, RequestError
from firefront.gateway.pipelines.registry import Route
from firefront.store.job_log import Entry
from firefront.tuning.jobs import evaluation, request
from firefront.tuning.pipelines.arms import Arm
from firefront.tuning.pipelines.run import promoted_by_hand
from firefront.tuning.pipelines.versions import Versions
from tests.gateway.pipelines.world import BAD, World
from tests.store.inside import add_completion


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


def draw(route: Route) -> tuple[str, Arm | None]:
    return route.draw(lambda name: True)


def answer(route: Route, num: int, *, errors: int = 0) -> None:
    """Requests, all answered but for those of the tried version that end in errors."""
    for number in range(num):
        _, arm = draw(route)
        if arm is None:
            continue
        if arm is route.tried and number < errors:
            arm.failed()
        else:
            arm.ended(is_cut=False, output_tokens=3, seconds=0.1)


def test_from_rows_to_a_version_that_serves(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5, "min_requests": 20})
        assert draw(route) == ("m", None)
        async with world.serving():
            job = world.run(route)
            tried = await world.until(lambda: route.versions.trial)
            assert tried.model.startswith("m:ft-intent-") and tried.run_id == job.id
            assert {draw(route)[0] for _ in range(100)} == {"m", tried.model}
            answer(route, 100)
            done = await world.ended(job)
        state = world.state(job)
        assert done.status == "succeeded" and state.result == "promoted", done.error
        assert draw(route) == (tried.model, None) and route.versions.current == 1
        assert [step.kind for step in state.steps] == [
            "data", "cleanse", "tune", "evaluate", "gate", "canary", "promote",
        ]  # fmt: skip
        assert all(step.status == "succeeded" and step.finished_at for step in state.steps)
        assert len({step.id for step in state.steps}) == 7
        tuning, judging = world.made
        assert state.made("data")["file_id"] == world.rows == tuning.request["training_file"]
        assert state.made("tune")["job_id"] == tuning.id and tuning.kind == request.KIND
        assert state.made("cleanse")["dropped"] == {"exact duplicate": 2}
        assert state.made("evaluate")["evaluation_id"] == judging.id
        assert judging.kind == evaluation.KIND and judging.request["against"] == "base"
        assert judging.request["file"] == state.made("tune")["held_out_id"]
        assert state.tried.num_requests >= 20

        # The next is compared with it, and another server finds all of it in the store.
        world.decisions = [BAD]
        async with world.serving():
            second = world.run(route)
            await world.ended(second)
        assert world.made[-1].request["against"] == tried.model
        assert world.state(second).result == "held_back"
        assert world.state(second).reasons == BAD["reasons"]
        assert set(world.statuses(second)) == {"data", "cleanse", "tune", "evaluate", "gate"}
        again = World(world.store.job_folder.parents[1])
        await again.gateway.pipelines.load(again.store)
        assert draw(again.gateway.pipelines.find("local", "intent")) == (tried.model, None)

    asyncio.run(go())


def test_a_version_that_does_harm_is_rolled_back(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5, "min_requests": 10_000})
        async with world.serving():
            job = world.run(route)
            await world.until(lambda: route.versions.trial)
            answer(route, 200, errors=100)
            await world.ended(job)
        state = world.state(job)
        assert state.result == "rolled_back" and "ended in an error" in state.reasons[0]
        assert route.versions.trial is None and draw(route) == ("m", None)
        assert "promote" not in world.statuses(job)

    asyncio.run(go())


def test_what_people_say_of_answers_counts(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5, "min_requests": 10_000})
        async with world.serving():
            job = world.run(route)
            tried = await world.until(lambda: route.versions.trial)
            for number in range(40):
                mark = f"of {tried.model}" if number % 2 else "of m"
                add_completion(
                    world.store, f"c{number}", model="m:intent", created_at=tried.started_at,
                    answer={"system_fingerprint": mark},
                )  # fmt: skip
                score = 0.1 * (number % 4) + (0.0 if number % 2 else 0.7)
                world.store.feedback.set("local", f"c{number}", score=score)
            await world.ended(job)
        state = world.state(job)
        assert state.result == "rolled_back" and "judged worse" in state.reasons[0]
        assert len(state.tried.scores) == len(state.control.scores) == 20

    asyncio.run(go())


def test_no_share_no_canary(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0})
        async with world.serving():
            job = world.run(route)
            await world.ended(job)
        assert world.state(job).result == "promoted"
        assert world.statuses(job)["canary"] == "skipped"

    asyncio.run(go())


def test_servers_that_die_at_any_step(world: World) -> None:
    """Each server lives for a moment; what is done once is not done twice."""

    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5, "min_requests": 40})
        job = world.run(route)
        lives = 0
        while world.get(job).finished_at is None:
            lives += 1
            assert lives < 200
            await world.gateway.pipelines.load(world.store)
            async with world.serving():
                await asyncio.sleep(0.05 + 0.02 * lives)
                route = world.gateway.pipelines.find("local", "m:intent")
                answer(route, 10)
        assert world.state(job).result == "promoted" and lives > 3
        assert [made.kind for made in world.made] == [request.KIND, evaluation.KIND]
        assert [version.run_id for version in route.versions.all] == [job.id]
        assert world.get(job).num_deaths == 0

    asyncio.run(go())


def test_cancelled_in_the_canary(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5})
        async with world.serving():
            job = world.run(route)
            await world.until(lambda: route.versions.trial)
            world.store.jobs.cancel("local", job.id, Entry(message="x"))
            await world.until(lambda: route.versions.trial is None)
        assert draw(route) == ("m", None)

    asyncio.run(go())


def test_cancelled_when_nobody_drives_it(world: World) -> None:
    """Its server was killed: the next one ends what it tried, though it cannot be leased."""

    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5})
        job = world.run(route)
        async with world.serving():
            await world.until(lambda: route.versions.trial)
        assert route.versions.trial is not None and world.get(job).finished_at is None
        world.store.jobs.cancel("local", job.id, Entry(message="x"))
        again = World(world.store.job_folder.parents[1])
        await again.gateway.pipelines.load(again.store)
        async with again.serving():
            found = again.gateway.pipelines.find("local", "intent")
            await again.until(lambda: found.versions.trial is None)
            second = again.run(found)
            trial = await again.until(lambda: found.versions.trial)
            assert trial.run_id == second.id

    asyncio.run(go())


def test_a_store_that_is_busy_for_a_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0.5, "min_requests": 20})
        renew, num_busy = world.store.jobs.renew, 0

        def busy(*args: object, **over: object) -> object:
            nonlocal num_busy
            num_busy += 1
            if num_busy % 4 == 0:
                raise OverloadedError("the database is busy; try again", retry_after_s=1.0)
            return renew(*args, **over)

        monkeypatch.setattr(world.store.jobs, "renew", busy)
        async with world.serving():
            job = world.run(route)
            await world.until(lambda: route.versions.trial)
            answer(route, 100)
            done = await world.ended(job)
        assert done.status == "succeeded" and done.num_deaths == 0 and num_busy > 8
        assert world.state(job).result == "promoted" and len(world.made) == 2

    asyncio.run(go())


def test_a_version_that_is_gone_is_answered_for_by_the_base(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0})
        async with world.serving():
            await world.ended(world.run(route))
        serving = route.versions.serving
        assert serving is not None and draw(route) == (serving.model, None)
        assert route.draw(lambda name: name != serving.model) == ("m", None)

    asyncio.run(go())


def test_promoted_by_hand(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0})
        world.decisions = [BAD]
        async with world.serving():
            held = world.run(route)
            with pytest.raises(RequestError, match="has not ended"):
                promoted_by_hand(world.get(held), route.versions, 0)
            await world.ended(held)
            await world.ended(world.run(route))
        first, second = world.state(held).made("tune")["model"], route.versions.serving
        assert second is not None and second.number == 1 and second.model != first

        async def by_hand() -> Versions:
            run = world.get(held)
            changed = await world.gateway.pipelines.change(
                "local", route.row.id, lambda versions: promoted_by_hand(run, versions, 7)
            )
            return changed.versions

        assert (await by_hand()).serving.model == first
        assert [version.number for version in (await by_hand()).all] == [1, 2]  # not a third
        world.store.files.delete("local", world.rows)
        async with world.serving():
            failed = await world.ended(world.run(route))
        with pytest.raises(RequestError, match="made no version"):
            promoted_by_hand(failed, route.versions, 0)

    asyncio.run(go())


def test_cancelled_while_it_tunes(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline()
        world.is_holding = True
        async with world.serving():
            job = world.run(route)

            def child() -> list[object]:
                return world.store.jobs.list("local", kind=request.KIND).items

            await world.until(child)
            world.store.jobs.cancel("local", job.id, Entry(message="x"))
            await world.until(lambda: child()[0].status == "cancelled")

    asyncio.run(go())


@pytest.mark.parametrize("kind", [request.KIND, evaluation.KIND])
def test_a_job_that_fails_fails_the_run(world: World, kind: str) -> None:
    async def go() -> None:
        route = await world.pipeline()
        world.refuses[kind] = "line 3 is no row"
        async with world.serving():
            job = await world.ended(world.run(route))
        assert job.status == "failed" and job.error["message"].endswith("line 3 is no row")
        assert job.error["message"].startswith(("ftjob-", "eval-"))
        assert draw(route) == ("m", None)

    asyncio.run(go())


def test_rows_that_are_gone(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline()
        world.store.files.delete("local", world.rows)
        async with world.serving():
            job = await world.ended(world.run(route))
        assert job.status == "failed" and world.rows in job.error["message"]

    asyncio.run(go())


def test_a_replay_makes_it_again(world: World) -> None:
    """The rows and the rival that it had then, although another version serves by now."""

    async def go() -> None:
        route = await world.pipeline(canary={"share": 0})
        world.digests = ["a" * 64, "b" * 64, "a" * 64, "c" * 64]
        async with world.serving():
            first = world.run(route)
            await world.ended(first)
            await world.ended(world.run(route))
            before = route.versions
            replay = world.run(route, first.id)
            await world.ended(replay)
            other = world.run(route, first.id)
            await world.ended(other)
        assert route.versions == before and before.current == 2
        assert world.made[4].request == world.made[0].request  # seed, rows, all of it
        assert world.made[5].request["against"] == "base"
        state = world.state(replay)
        assert state.result == "replayed"
        assert state.reasons == [f"It made the same adapter as {first.id}, with the same decision."]
        assert "another adapter" in world.state(other).reasons[0]

    asyncio.run(go())


def test_traffic_is_the_pipelines_own_unless_it_says_whose(world: World) -> None:
    async def go() -> None:
        for number, model in enumerate(["m:intent", "m", "m:other", "m:intent", "m:intent"]):
            add_completion(
                world.store, f"c{number}", model=model,
                request={"messages": [{"role": "user", "content": f"{model} {number}"}]},
                answer={"choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "yes"},
                }]},
            )  # fmt: skip
        for traffic, num_rows in (({}, 3), ({"model": "m"}, 1)):
            route = await world.pipeline(canary={"share": 0}, data={"traffic": traffic})
            async with world.serving():
                job = world.run(route)
                await world.ended(job)
            assert world.state(job).made("data")["rows"] == num_rows
            await world.gateway.pipelines.remove("local", route.row.id)

    asyncio.run(go())


def test_the_same_again_changes_nothing(world: World) -> None:
    async def go() -> None:
        route = await world.pipeline(canary={"share": 0})
        world.digests = ["a" * 64, "a" * 64]
        async with world.serving():
            await world.ended(world.run(route))
            second = world.run(route)
            await world.ended(second)
        assert world.state(second).result == "unchanged" and route.versions.current == 1
        assert len(world.made) == 3  # it was not judged

    asyncio.run(go())


def test_one_run_at_a_time(world: World) -> None:
    route = asyncio.run(world.pipeline())
    job = world.run(route)
    with pytest.raises(RequestError, match=f"{job.id} has not ended"):
        world.run(route)
    world.store.jobs.cancel("local", job.id, Entry(message="x"))
    with pytest.raises(RequestError, match="was not judged"):
        world.run(route, job.id)
    with pytest.raises(NotFoundError):
        world.run(route, "run-" + "0" * 24)
