"""The engine's benchmark, on an engine that computes nothing: what it sends and what it reports."""

import json
import time
from pathlib import Path

import pytest

from firefront.backends.cpu.executor import CpuExecutor
from firefront.core.deployment import Deployment
from firefront.core.errors import ReplicaError, RequestError
from firefront.core.messages import Delta, Stats, Submit, Usage
from firefront.core.step import SamplerRows, StepInputs
from firefront.engine import bench
from firefront.engine.profile import run_profile
from firefront.engine.worker import Loaded
from firefront.models import trace_model
from firefront.ops import Sizes
from tests.random_checkpoint import CONFIG, random_checkpoint

PROBE = {"barrier_ns": 50, "dp_g": [3.0, 3.0], "bw_gbs": 30.0, "class": "same-ccx"}


class InstantEngine:
    """Answers each request with as many tokens as asked for, one a step."""

    def __init__(self, fail: bool = False) -> None:
        self.submits: list[Submit] = []
        self._left: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._busy_s = 0.0
        self._fail = fail

    @property
    def has_work(self) -> bool:
        return bool(self._left)

    def submit(self, submit: Submit) -> None:
        self.submits.append(submit)
        assert submit.sampling.max_tokens is not None and submit.sampling.ignore_eos
        self._left[submit.request_id] = submit.sampling.max_tokens
        self._wanted[submit.request_id] = submit.sampling.max_tokens

    def abort(self, request_id: str, generation: int) -> None: ...

    def watch(self, new_work: object) -> None: ...

    def step(self) -> list[Delta]:
        deltas, started_s = [], time.perf_counter()
        for request_id in list(self._left):
            is_first = self._left[request_id] == self._wanted[request_id]
            self._left[request_id] -= 1
            finish = None if self._left[request_id] else "length"
            if self._fail:
                finish = "error"
            if finish:
                del self._left[request_id]
            deltas.append(
                Delta(
                    request_id=request_id, generation=0, token_ids=[1], text="", finish=finish,
                    error="broken" if self._fail else None,
                    usage=Usage(num_prompt=1, num_output=1) if is_first else None,
                )
            )  # fmt: skip
        self._busy_s += time.perf_counter() - started_s
        return deltas

    def stats(self) -> Stats:
        zeros = {name: 0 for name in Stats.__struct_fields__}
        return Stats(**{**zeros, "executor_s": self._busy_s})  # type: ignore[arg-type]


def probe_program(folder: Path, text: str) -> Path:
    path = folder / "probe"
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return path


def run(path: Path, engine: InstantEngine, **options: object) -> dict[str, object]:
    def load(deployment: Deployment) -> Loaded:
        assert deployment.speculation == "off"
        return Loaded(engine, "tiny", 4096, 1000, 16)

    deployment = Deployment(model=str(path), threads=2)
    return bench.run_bench(path, deployment, load, sha256="ab", **options)  # type: ignore[arg-type]


def test_output_has_the_agreed_shape(starter_path: Path, tmp_path: Path) -> None:
    program = probe_program(tmp_path, json.dumps(PROBE))
    result = run(starter_path, InstantEngine(), probe=program, num_runs=2, streams=(1, 4))
    assert list(result) == [
        "model", "sha256", "threads", "class", "probe", "prefill_512", "decode", "python_share",
        "ttft_1000", "load_s", "peak_rss_bytes",
    ]  # fmt: skip
    assert result["class"] == "same-ccx" and result["threads"] == 2
    assert result["probe"] == {"before": PROBE, "after": PROBE}
    decode = result["decode"]
    assert isinstance(decode, dict) and list(decode) == ["1", "4"]
    for speed in (*decode.values(), result["prefill_512"]):
        assert set(speed) == {"tok_s", "share", "runs"}
        assert len(speed["runs"]) == 2 and speed["share"] > 0
    shares = result["python_share"]
    assert isinstance(shares, dict) and list(shares) == ["1", "4"]
    assert all(0 < share < 1 for share in shares.values())
    assert json.dumps(result)


def test_prompts_are_new_except_for_the_cached_ones(starter_path: Path) -> None:
    engine = InstantEngine()
    result = run(starter_path, engine, num_runs=2, streams=(4,))
    assert result["class"] is None
    prompts = [tuple(submit.token_ids) for submit in engine.submits]
    assert {len(prompt) for prompt in prompts} == {128, 512, 1000}
    assert len(prompts) - len(set(prompts)) == 2  # each TTFT prompt a second time
    outputs = {
        submit.sampling.max_tokens for submit in engine.submits if len(submit.token_ids) == 128
    }
    assert outputs == {1, 8, 65}


def test_a_failed_request_is_an_error_not_a_speed(starter_path: Path) -> None:
    with pytest.raises(ReplicaError, match="broken"):
        run(starter_path, InstantEngine(fail=True))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_bad_probes_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError, match="--probe"):
        bench.run_probe(probe_program(tmp_path, text))


def test_a_change_of_placement_shows() -> None:
    other = PROBE | {"class": "split-ccx"}
    assert bench._class_of(PROBE, other) == "changed: same-ccx to split-ccx"


class TimedExecutor:
    """Says that each op took a microsecond of packing, ten of computing and two of waiting."""

    def __init__(self) -> None:
        self.plan = trace_model(CONFIG)
        kinds = ("rmsnorm", "select_rows")
        scopes = [op.scope for op in self.plan.ops if op.kind not in kinds]
        self.op_index = {scope: i for i, scope in enumerate(scopes)}
        self.vocab_size = CONFIG.vocab_size
        self.steps: list[StepInputs] = []

    def step(self, inputs: StepInputs, rows: SamplerRows) -> None:
        assert len(rows.rows) == len(inputs.logit_rows)
        self.steps.append(inputs)

    def profile(self, on: bool) -> None: ...

    def op_times(self) -> list[tuple[int, int, int]]:
        return [(1000, 10000, 2000)] * len(self.op_index)


def test_profile_has_every_op_and_packing_and_barriers(tmp_path: Path) -> None:
    executor = TimedExecutor()
    probe = probe_program(tmp_path, json.dumps(PROBE))
    result = run_profile(executor, Sizes.decode(3, 40), lambda name: 1.0, 5, probe)
    num_ops = len(executor.op_index)
    assert [part["name"] for part in result["ops"]] == [*executor.op_index, "pack", "barrier"]
    times = {part["name"]: part["time_us"] for part in result["ops"]}
    assert times["pack"] == num_ops and times["barrier"] == 2 * num_ops
    assert {times[scope] for scope in executor.op_index} == {10.0}
    down = next(part for part in result["ops"] if part["name"].endswith("down_proj"))
    weights = CONFIG.hidden_dim * CONFIG.ffn_dim
    assert down["bytes"] == weights and down["ops"] // (2 * 3 * weights) == 1
    seconds = max(down["bytes"] / 30e9, down["ops"] / (6e9 * bench.OPS_PER_DOT))
    assert down["share"] == pytest.approx(seconds / 10e-6, abs=1e-4)
    kinds = {part["name"]: part for part in result["kinds"]}
    assert kinds["down_proj"]["time_us"] == 10 * CONFIG.num_layers
    touched = {slot // 16 for slot in executor.steps[0].slot_mapping.tolist()}
    assert touched == set(range(9))  # every block that the step reads was written before
    inputs = executor.steps[-1]
    assert inputs.seq_lens.tolist() == [40] * 3 and inputs.positions.tolist() == [39] * 3
    assert len(set(inputs.slot_mapping.tolist())) == 3


def test_profile_of_a_real_executor() -> None:
    deployment = Deployment(model="tiny", threads=2, context=64, kv_blocks=16, token_budget=64)
    executor = CpuExecutor(trace_model(CONFIG), random_checkpoint(("Q8_0",)), deployment)
    result = run_profile(executor, Sizes.prefill(40), lambda name: 1.0, 3, None)
    assert all(part["time_us"] > 0 for part in result["ops"])
    assert sum(part["time_us"] for part in result["kinds"]) <= result["step_us"]
    assert [part["share"] for part in result["kinds"]] == [None] * len(result["kinds"])
