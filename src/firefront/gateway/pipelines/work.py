"""The steps of one run: from rows to a version that serves, or the reasons why it does not.

Owns their order and what they start: jobs of the queue do the heavy part. Invariants: a step that
has ended is not begun again, whoever takes the run up; what serves changes in the last step only.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from firefront.core.errors import NotFoundError, RequestError
from firefront.gateway.datasets import make_dataset
from firefront.gateway.pipelines.body import traffic_of
from firefront.gateway.pipelines.registry import Route
from firefront.gateway.state import Gateway
from firefront.store.job_log import Entry
from firefront.store.jobs import ENDED, Lease, StoredJob
from firefront.tuning.evaluation.evaluate import BASE
from firefront.tuning.jobs import evaluation, request
from firefront.tuning.pipelines.arms import Verdict, judge
from firefront.tuning.pipelines.definition import evaluation_request, tuning_request
from firefront.tuning.pipelines.run import Result, RunState, Step, StepKind, request_of, state_of
from firefront.tuning.pipelines.versions import Trial

if TYPE_CHECKING:
    from firefront.store.store import Store  # heavy

HELD_S = 30  # a lease that is not renewed for so long is anybody's
MAX_RATED = 2000  # answers whose scores are looked at, the newest
LOOKS_A_READ = 15  # looks at the counts for one at the scores, which are read from the store
Json = dict[str, Any]


class RunWork:
    """A leased run; `go` does what is left of it. `look_s`: between two looks at what goes on."""

    def __init__(
        self, gateway: Gateway, store: "Store", lease: Lease, job: StoredJob, look_s: float
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._lease = lease
        self._job = job
        self._account_id = job.account_id
        self._request = request_of(job)
        self._state = state_of(job)
        self._look_s = look_s

    async def go(self) -> None:
        """To the end of the run. FirefrontError: it has failed; LeaseLostError: it was cancelled,
        or another server has it."""
        self._gateway.pipelines.get(self._account_id, self._request.pipeline_id)
        data = await self._step("data", self._data)
        tuned = await self._step("tune", lambda: self._tune(data["file_id"]))
        await self._step("cleanse", lambda: self._cleanse(tuned))
        if self._is_what_serves(tuned):
            await self._end("unchanged", ["It is the version that serves, bit for bit."])
            return
        judged = await self._step("evaluate", lambda: self._evaluate(tuned))
        gate = await self._step("gate", lambda: self._gate(judged))
        if self._request.replays is not None:
            await self._compare(tuned, gate)
            return
        if not gate["is_promoted"]:
            await self._end("held_back", gate["reasons"])
            return
        canary = await self._step("canary", lambda: self._canary(tuned))
        if canary["verdict"] == "roll back":
            await self._end("rolled_back", canary["reasons"])
            return
        version = await self._step("promote", lambda: self._promote(tuned))
        await self._end("promoted", [f"{tuned['model']} serves as version {version['version']}."])

    async def give_back(self) -> None:
        """Keep what was counted, and let another go on."""
        await self._keep(self._state)
        await self._store.run(self._store.jobs.release, self._lease)

    async def _step(self, kind: StepKind, work: Callable[[], Awaitable[Json]]) -> Json:
        """What the step made, now or before."""
        if (made := self._state.made(kind)) is not None:
            return made
        step = next((one for one in self._state.steps if one.kind == kind), None) or Step(
            id=f"{self._job.id}-{kind}", kind=kind, status="running", started_at=_now()
        )
        await self._keep(self._state.with_step(step))
        made = await work()
        is_skipped = bool(made.pop("is_skipped", False))
        step = msgspec.structs.replace(
            step,
            status="skipped" if is_skipped else "succeeded",
            finished_at=_now(),
            made={**step.made, **made},
        )
        shown = {name: value for name, value in made.items() if name != "reasons"}
        await self._keep(
            self._state.with_step(step),
            Entry(message=f"{kind}: {step.status}", data=shown, key=kind),
        )
        return step.made

    async def _data(self) -> Json:
        """The rows, as a file."""
        if self._request.file is not None:
            file_id = self._request.file
        else:
            data = self._request.definition.data
            if data.file is None:
                return await self._from_traffic()
            file_id = data.file
        file = await self._store.run(self._store.files.get, self._account_id, file_id)
        return {"file_id": file.id, "num_bytes": file.num_bytes}

    async def _from_traffic(self) -> Json:
        wanted = traffic_of(self._request.definition)
        if wanted.model is None:
            route = self._gateway.pipelines.get(self._account_id, self._request.pipeline_id)
            wanted.model = route.model
        file_id = f"file-{self._job.id.rpartition('-')[2]}-data"
        try:
            file = await self._store.run(self._store.files.get, self._account_id, file_id)
            return {"file_id": file.id, "num_bytes": file.num_bytes}
        except NotFoundError:
            pass
        file, summary = await make_dataset(self._store, self._account_id, wanted, id=file_id)
        return {"file_id": file.id, "num_bytes": file.num_bytes, **summary}

    async def _tune(self, file_id: str) -> Json:
        """The adapter, made by a job of its own, and served by a name of its own."""
        asked = self._request
        wanted = tuning_request(asked.definition, file_id, asked.seed, asked.name)
        job = await self._done(
            request.KIND,
            lambda: request.create_job(
                self._store, self._account_id, self._job.model, wanted, _mark(self._job)
            ),
        )
        model: str = job.outcome["fine_tuned_model"]
        files = {id.rpartition("-")[2]: id for id in job.outcome["result_files"]}
        return {
            "job_id": job.id,
            "model": model,
            "sha256": self._adapter_sha256(model),
            "hyperparameters": job.outcome.get("hyperparameters", {}),
            "manifest_id": files["manifest"],
            "held_out_id": files.get("held_out"),
        }

    async def _cleanse(self, tuned: Json) -> Json:
        """What was dropped of the rows and why: the job did it before it tuned."""
        file, content = await self._store.run(
            self._store.files.open, self._account_id, tuned["manifest_id"]
        )
        with content:
            manifest = await asyncio.to_thread(lambda: msgspec.json.decode(content.read()))
        rows = manifest["cleansing"]["rows"]
        return {"file_id": file.id, "rows": rows, "dropped": manifest["cleansing"]["dropped_by"]}

    async def _evaluate(self, tuned: Json) -> Json:
        """Against the version that serves, or the base, on rows that it has not learned from."""
        definition = self._request.definition
        file_id = definition.evaluation.file or definition.tuning.validation_file
        file_id = file_id or tuned["held_out_id"]
        against = self._request.against or self._state.against or self._serving() or BASE
        await self._keep(msgspec.structs.replace(self._state, against=against))
        if file_id is None:
            return {"is_skipped": True, "decision": None}
        wanted = evaluation_request(
            definition, model=tuned["model"], against=against, file=file_id
        )
        job = await self._done(
            evaluation.KIND,
            lambda: evaluation.create_evaluation(
                self._store, self._account_id, self._job.model, wanted, _mark(self._job)
            ),
        )
        return {
            "evaluation_id": job.id,
            "result_files": job.outcome["result_files"],
            "decision": job.outcome["decision"],
        }

    async def _gate(self, judged: Json) -> Json:
        """Better beyond noise, and nothing forgotten."""
        if judged["decision"] is None:
            reason = "No rows were held out, so it could not be judged; name an evaluation file."
            return {"is_promoted": False, "reasons": [reason]}
        return dict(judged["decision"])

    async def _canary(self, tuned: Json) -> Json:
        """A share of the requests, until it is clear that the version does no harm."""
        rule = self._request.definition.canary
        if rule.share == 0.0:
            return {"is_skipped": True, "verdict": "promote", "reasons": []}
        route = await self._try(tuned, rule.share)
        trial = route.versions.trial
        assert trial is not None
        num_looks = 0
        while True:
            if num_looks % LOOKS_A_READ == 0:
                await self._read_scores(route, trial.started_at)
            verdict = judge(rule, route.control, route.tried, _now() - trial.started_at)
            if verdict.verdict != "go on":
                await self._read_scores(route, trial.started_at)
                verdict = judge(rule, route.control, route.tried, _now() - trial.started_at)
            await self._keep(
                msgspec.structs.replace(self._state, control=route.control, tried=route.tried)
            )
            if verdict.verdict != "go on":
                return await self._decided(route, verdict)
            num_looks += 1
            await asyncio.sleep(self._look_s)

    async def _try(self, tuned: Json, share: float) -> Route:
        """The pipeline, with its trial; the counts of a run that was taken up go on."""
        model, sha256 = tuned["model"], tuned["sha256"]

        pipelines = self._gateway.pipelines
        before = pipelines.get(self._account_id, self._request.pipeline_id).versions.trial
        if before is None or before.run_id != self._job.id:
            before = Trial(
                model=model, sha256=sha256, run_id=self._job.id, share=share, started_at=_now()
            )
        trial = before
        route = await pipelines.change(
            self._account_id,
            self._request.pipeline_id,
            lambda versions: versions.trying(trial),
        )
        if not route.has_earlier and self._state.tried is not None:
            assert self._state.control is not None
            route.control.add(self._state.control)
            route.tried.add(self._state.tried)
        route.has_earlier = True
        return route

    async def _read_scores(self, route: Route, since: int) -> None:
        """The feedback on answers that were kept, by the version that gave them."""
        trial = route.versions.trial
        if trial is None:  # cancelled; the next look finds the lease lost
            return
        mark = self._gateway.served(trial.model, self._account_id).fingerprint
        page = await self._store.run(
            self._store.completions.list,
            self._account_id,
            model=route.model,
            created=(since, None),
            score=(0.0, None),
            limit=MAX_RATED,
            order="desc",
        )
        ids = [completion.id for completion in page.items]
        feedback = await self._store.run(self._store.feedback.of, self._account_id, ids)
        tried: list[float] = []
        control: list[float] = []
        for completion in page.items:
            said = feedback.get(completion.id)
            if said is not None and said.score is not None:
                is_tried = completion.answer.get("system_fingerprint") == mark
                (tried if is_tried else control).append(said.score)
        route.tried.scores, route.control.scores = tried, control

    async def _decided(self, route: Route, verdict: Verdict) -> Json:
        if verdict.verdict == "roll back":
            await _drop_trial(self._gateway, self._job)
        return {
            "verdict": verdict.verdict,
            "reasons": verdict.reasons,
            "tried": msgspec.to_builtins(self._state.tried),
            "control": msgspec.to_builtins(self._state.control),
        }

    async def _promote(self, tuned: Json) -> Json:
        """The version serves from now on."""
        route = await self._gateway.pipelines.change(
            self._account_id,
            self._request.pipeline_id,
            lambda versions: versions.promoted(
                tuned["model"], tuned["sha256"], self._job.id, _now()
            ),
        )
        return {"version": route.versions.current, "model": tuned["model"]}

    async def _compare(self, tuned: Json, gate: Json) -> None:
        """Whether a replay made what the run before it had made."""
        assert self._request.replays is not None
        first = state_of(
            await self._store.run(self._store.jobs.get, self._account_id, self._request.replays)
        )
        was_tuned, was_gate = first.made("tune"), first.made("gate")
        assert was_tuned is not None and was_gate is not None
        same = "the same" if tuned["sha256"] == was_tuned["sha256"] else "another"
        judged = "the same" if gate == was_gate else "another"
        await self._end(
            "replayed",
            [f"It made {same} adapter as {self._request.replays}, with {judged} decision."],
        )

    async def _done(self, kind: str, create: Callable[[], StoredJob]) -> StoredJob:
        """A job that this run started, now or before it was taken up, once it has succeeded."""
        store = self._store
        found = await store.run(
            store.jobs.list, self._account_id, kind=kind, metadata=_mark(self._job), limit=1
        )
        job = found.items[0] if found.items else await store.run(create)
        if self._gateway.jobs is not None:
            self._gateway.jobs.wake()
        while job.status not in ENDED:
            await asyncio.sleep(self._look_s)
            await self._keep(self._state)
            job = await store.run(store.jobs.get, self._account_id, job.id)
        if job.status != "succeeded":
            why = (job.error or {}).get("message", f"it was {job.status}")
            raise RequestError(f"{job.id}: {why}", code="step_failed")
        return job

    async def _end(self, result: Result, reasons: list[str]) -> None:
        self._state = msgspec.structs.replace(self._state, result=result, reasons=reasons)
        said = [Entry(message=f"{result}: {reason}") for reason in reasons]
        await self._store.run(
            self._store.jobs.move, self._lease, "succeeded",
            events=said, outcome=msgspec.to_builtins(self._state),
        )  # fmt: skip

    async def _keep(self, state: RunState, *events: Entry) -> None:
        """What it knows, and the lease. LeaseLostError."""
        self._state = state
        outcome = msgspec.to_builtins(state)
        await self._store.run(
            self._store.jobs.renew, self._lease, HELD_S,
            events=events, outcome=outcome, got_on=bool(events),
        )  # fmt: skip

    def _serving(self) -> str | None:
        route = self._gateway.pipelines.get(self._account_id, self._request.pipeline_id)
        serving = route.versions.serving
        return None if serving is None else serving.model

    def _is_what_serves(self, tuned: Json) -> bool:
        if self._request.replays is not None:
            return False
        route = self._gateway.pipelines.get(self._account_id, self._request.pipeline_id)
        serving = route.versions.serving
        is_mine = serving is not None and serving.run_id == self._job.id
        return serving is not None and not is_mine and serving.sha256 == tuned["sha256"]

    def _adapter_sha256(self, model: str) -> str:
        found = self._gateway.adapters.find(self._account_id, model)
        if found is None:
            raise NotFoundError(f"{model} was deleted before it was judged")
        return found[1].row.sha256


async def abandon(gateway: Gateway, store: "Store", run: StoredJob) -> None:
    """End what a run that is over began: its jobs, its share of the requests. Once or often."""
    note = Entry(message=f"{run.id} was {run.status}")
    for kind in (request.KIND, evaluation.KIND):
        begun = await store.run(
            store.jobs.list, run.account_id, kind=kind, metadata=_mark(run), limit=1
        )
        for job in begun.items:
            if job.status not in ENDED:
                with suppress(RequestError):  # it has ended meanwhile
                    await store.run(store.jobs.cancel, run.account_id, job.id, note)
    if gateway.jobs is not None:
        gateway.jobs.wake()
    await _drop_trial(gateway, run)


async def _drop_trial(gateway: Gateway, run: StoredJob) -> None:
    with suppress(NotFoundError):  # the pipeline was deleted
        await gateway.pipelines.change(
            run.account_id,
            request_of(run).pipeline_id,
            lambda versions: versions.dropped(run.id),
        )


def _mark(run: StoredJob) -> dict[str, str]:
    """The metadata of what a run starts."""
    return {"pipeline_run": run.id}


def _now() -> int:
    return int(time.time())
