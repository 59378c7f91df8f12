"""The bench's arithmetic and judgement, on made-up measurements. No peer is needed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.peers import divergence, figures, llama_cpp, report, rounds
from bench.peers import lot as lot_module
from bench.peers.children import workload
from bench.peers.engine import Answer, ChildSession, EngineFailed
from bench.peers.figures import Measurement, Spread
from bench.peers.firefront_engine import parse_variant
from bench.peers.place import CannotSetUp, Place
from bench.peers.progress import Progress, digest_of_code

NEAR = {"class": "near", "bw_gbs": 30.0, "dp_g": [3.0, 3.0]}
FAR = {"class": "far", "bw_gbs": 50.0, "dp_g": [3.0, 3.0]}
WORK = {"decode_1": {"bytes": 1e8, "ops": 2e8}}


def measured(
    number: int, engine: str, tok_s: float, before: Any = NEAR, after: Any = NEAR
) -> Measurement:
    return Measurement(number, engine, "decode_1", tok_s, [[1.0]], before, after)


# -- figures ---------------------------------------------------------------------------------


def test_a_measurement_counts_only_if_its_probes_agree() -> None:
    mixed = [measured(1, "a", 1), measured(2, "a", 2, NEAR, FAR), measured(3, "a", 3, FAR, FAR)]
    assert [m.machine_class for m in mixed] == ["near", None, "far"]
    assert [m.tok_s for m in figures.of_class(mixed, "near")] == [1]
    assert [m.tok_s for m in figures.of_class(mixed, "far")] == [3]
    assert figures.of_class(mixed, None) == []


def test_main_class_is_the_most_frequent_of_the_steady() -> None:
    changed = [measured(n, "a", 1, FAR, NEAR) for n in range(5)]
    near = [measured(n, "a", 1) for n in range(2)]
    assert figures.main_class([*changed, *near, measured(9, "a", 1, FAR, FAR)]) == "near"
    assert figures.main_class(changed) is None


def test_spread_is_median_least_greatest() -> None:
    assert figures.spread([9.0, 1.0, 4.0]) == Spread(4.0, 1.0, 9.0, 3)
    assert figures.spread([1.0, 3.0]) == Spread(2.0, 1.0, 3.0, 2)
    assert figures.spread([]) is None


def test_ratios_pair_measurements_of_one_round() -> None:
    kept = [
        measured(1, "ours", 10), measured(1, "peer", 5),
        measured(2, "ours", 30), measured(2, "peer", 10),
        measured(3, "ours", 1000),
        measured(4, "peer", 1000),
    ]  # fmt: skip
    assert figures.ratios(kept, "ours", "peer", "decode_1") == Spread(2.5, 2.0, 3.0, 2)
    assert figures.ratios(kept, "ours", "peer", "decode_4") is None


def test_summary_compares_within_the_class_only() -> None:
    measurements = [
        measured(1, "ours", 10), measured(1, "peer", 5),
        measured(2, "ours", 90, FAR, FAR), measured(2, "peer", 1, FAR, FAR),
        measured(3, "ours", 90, NEAR, FAR), measured(3, "peer", 1),
    ]  # fmt: skip
    found = figures.summary(measurements, ["ours", "peer"], WORK, "ours", "near")["decode_1"]
    assert found["ours"]["tok_s"] == Spread(10, 10, 10, 1)
    assert found["ours"]["ours_by_it"] is None
    assert found["peer"]["tok_s"] == Spread(3.0, 1, 5, 2)
    assert found["peer"]["ours_by_it"] == Spread(2.0, 2.0, 2.0, 1)
    nothing = figures.summary([], ["ours"], WORK, "ours", None)["decode_1"]["ours"]
    assert set(nothing.values()) == {None}


def test_a_share_is_of_what_binds_by_the_better_probe() -> None:
    slower = {**NEAR, "bw_gbs": 15.0}
    kept = [measured(1, "a", 150, slower, NEAR), measured(2, "a", 300, slower, slower)]
    bound_by_bytes = {"bytes": 1e8, "ops": 1e6}
    assert figures.shares(kept, "a", "decode_1", bound_by_bytes) == Spread(1.25, 0.5, 2.0, 2)
    ops_a_second = 6.0e9 * figures.OPS_PER_DOT
    bound_by_ops = {"bytes": 1.0, "ops": ops_a_second / 600}
    assert figures.shares(kept, "a", "decode_1", bound_by_ops) == Spread(0.375, 0.25, 0.5, 2)
    assert figures.shares(kept, "b", "decode_1", bound_by_ops) is None


def test_first_tokens_are_of_new_and_repeated_prompts() -> None:
    runs = [[0.5, 0.02], [0.7, 0.04], [0.6, 0.03]]
    kept = [Measurement(1, "a", "cached_1000", 1.0, runs, NEAR, NEAR), measured(1, "a", 1)]
    assert figures.seconds_of(kept, "a", "cached_1000", 0) == 0.6
    assert figures.seconds_of(kept, "a", "cached_1000", 1) == 0.03
    assert figures.seconds_of(kept, "a", "decode_1", 0) is None


def test_limits_are_the_probes_medians() -> None:
    found = figures.limits([measured(1, "a", 1), measured(2, "a", 1, FAR, FAR)], "near")
    assert found == {"bandwidth_gb_s": 30.0, "int8_gop_s": 768.0}
    assert figures.limits([], "near") == {}


# -- workload --------------------------------------------------------------------------------


def test_decode_speed_is_without_prefill() -> None:
    assert workload.decode_speed(16, short_s=1.0, long_s=3.0) == 512
    with pytest.raises(ValueError, match="64 more tokens"):
        workload.decode_speed(1, short_s=1.0, long_s=1.0)


@pytest.mark.parametrize("bad", ["decode", "decode_0", "decode_x", "train_4", "prefill_-1"])
def test_figures_are_checked(bad: str) -> None:
    with pytest.raises(ValueError, match="figures are"):
        workload.kind_of(bad)
    assert workload.kind_of("decode_16") == ("decode", 16)
    assert workload.kind_of("cached_1000") == ("cached", 1000)


def test_meter_asks_for_what_the_figures_are_defined_by() -> None:
    asked: list[tuple[int, int, int]] = []

    def seconds(prompts: list[list[int]], num_output: int) -> float:
        assert {len(prompt) for prompt in prompts} == {len(prompts[0])}
        asked.append((len(prompts), len(prompts[0]), num_output))
        return 0.5 * len(prompts[0]) / 128 + (num_output - 1) / 64

    meter = workload.Meter(seconds, vocab_size=50, enough_s=2.0)
    assert meter.measure("decode_4") == {"tok_s": 256.0, "seconds": [[0.5, 1.5]]}
    assert asked == [(4, 128, 8), (4, 128, 1), (4, 128, 65)]
    asked.clear()
    assert meter.measure("prefill_512")["tok_s"] == 256
    assert asked == [(1, 512, 1), (1, 512, 1)]
    asked.clear()
    meter.measure("decode_4")  # its shapes are known by now: a short warm-up
    assert asked == [(1, 32, 4), (4, 128, 1), (4, 128, 65)]


def test_a_cached_prompt_is_sent_again() -> None:
    known: set[int] = set()

    def seconds(prompts: list[list[int]], num_output: int) -> float:
        if hash(tuple(prompts[0])) in known:
            return 0.25
        known.add(hash(tuple(prompts[0])))
        return 2.0

    keeps = workload.Meter(seconds, vocab_size=50, keeps_prefixes=True, enough_s=2.0)
    assert keeps.measure("cached_100") == {"tok_s": 400.0, "seconds": [[2.0, 0.25]]}
    with pytest.raises(ValueError, match="keeps no prefixes"):
        workload.Meter(seconds, vocab_size=50).measure("cached_100")


def test_a_quick_meter_measures_once() -> None:
    meter = workload.Meter(lambda prompts, num_output: 1e-3, vocab_size=50, enough_s=0.0)
    assert len(meter.measure("prefill_8")["seconds"]) == 1
    meter = workload.Meter(lambda prompts, num_output: 1e-3, vocab_size=50)
    assert len(meter.measure("prefill_8")["seconds"]) == workload.MAX_RUNS


# -- llama.cpp's tools -----------------------------------------------------------------------

BENCH_JSON = """[
  {"n_prompt": 512, "n_gen": 0, "avg_ts": 307.84, "stddev_ts": 1.2},
  {"n_prompt": 0, "n_gen": 64, "avg_ts": 112.15, "stddev_ts": 0.4}
]"""
TABLE = """
llama_batched_bench: n_kv_max = 6144, n_batch = 2048, n_threads = 2

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|   128 |     64 |    1 |    192 |    0.419 |   305.19 |    0.601 |   106.55 |    1.020 |   188.22 |
|   128 |     64 |    4 |    768 |    1.694 |   302.20 |    1.941 |   131.88 |    3.635 |   211.26 |
"""


def test_llama_bench_output_is_read() -> None:
    assert llama_cpp.prefill_speed(BENCH_JSON, 512) == 307.84
    with pytest.raises(EngineFailed, match="0 tests of 256"):
        llama_cpp.prefill_speed(BENCH_JSON, 256)


def test_llama_batched_bench_output_is_read() -> None:
    assert llama_cpp.decode_speed_of(TABLE, 1) == 106.55
    assert llama_cpp.decode_speed_of(TABLE, 4) == 131.88
    for text, streams in ((TABLE, 16), ("", 1), (TABLE.replace("S_TG", "X"), 1)):
        with pytest.raises(EngineFailed, match="no row"):
            llama_cpp.decode_speed_of(text, streams)


def test_a_tool_that_fails_says_at_what() -> None:
    errors = "loading\nkernels.h:11: GGML_ASSERT(S > 0) failed\n#0 0x7f in wait4 ()\n30 wait4.c\n"
    assert llama_cpp.reason(errors) == "kernels.h:11: GGML_ASSERT(S > 0) failed"
    assert llama_cpp.reason("one\n\ntwo\n\n") == "two"
    assert llama_cpp.reason("") == ""


# -- rounds ----------------------------------------------------------------------------------


class Fixed:
    """A session of known speeds; `broken` names the figure that it fails at."""

    def __init__(self, tok_s: float, broken: str = "") -> None:
        self.info: dict[str, Any] = {}
        self.asked: list[str] = []
        self._tok_s, self._broken = tok_s, broken

    def measure(self, figure: str) -> Answer:
        self.asked.append(figure)
        if figure == self._broken:
            raise EngineFailed("out of memory")
        return Answer(self._tok_s, [[1.0]])

    def close(self) -> None: ...


def probes_of(*classes: str) -> Callable[[], dict[str, Any]]:
    """These classes in turn, and then the last one for ever."""
    left = list(classes)
    return lambda: {**NEAR, "class": left.pop(0) if len(left) > 1 else left[0]}


def plan(rounds_: int, figures_: list[str], max_rounds: int = 9) -> rounds.Plan:
    return rounds.Plan(figures_, rounds_, max_rounds, 1e9)


def run(
    sessions: dict[str, Fixed],
    wanted: rounds.Plan,
    probe: Callable[[], dict[str, Any]],
    progress: Progress | None = None,
) -> Progress:
    progress = progress or Progress()
    rounds.run_rounds(dict(sessions), wanted, probe, print, progress)
    return progress


def test_rounds_take_turns_and_end_when_enough_was_kept() -> None:
    ours, peer = Fixed(2), Fixed(1)
    wanted = plan(3, ["prefill_512", "decode_1"])
    outcome = run({"ours": ours, "peer": peer}, wanted, probes_of("near"))
    turns = [(m.round, m.figure, m.engine) for m in outcome.measurements]
    assert turns == [
        (number, figure, engine)
        for number in (1, 2, 3)
        for figure in ("prefill_512", "decode_1")
        for engine in ("ours", "peer")
    ]
    assert rounds.class_of(wanted, outcome) == "near"


def test_an_arm_in_which_the_class_changed_is_measured_again() -> None:
    ours, peer = Fixed(2), Fixed(1)
    probe = probes_of("near", "near", "far", "near", "near")
    outcome = run({"ours": ours, "peer": peer}, plan(1, ["decode_1"]), probe)
    assert (len(ours.asked), len(peer.asked)) == (2, 3)  # twice in round 1, and all of round 2
    assert [m.machine_class for m in outcome.measurements][:3] == ["near", None, None]
    assert not figures.wanting(outcome.measurements, ["ours", "peer"], ["decode_1"], 1, "near")


def test_rounds_end_where_the_class_never_settles() -> None:
    flip = {"n": 0}

    def probe() -> dict[str, Any]:
        flip["n"] += 1
        return NEAR if flip["n"] % 2 else FAR

    wanted = plan(1, ["decode_1"], max_rounds=3)
    outcome = run({"ours": Fixed(1)}, wanted, probe)
    assert {m.round for m in outcome.measurements} == {1, 2, 3}
    assert rounds.class_of(wanted, outcome) is None


def test_an_engine_that_fails_is_left_out_with_the_reason() -> None:
    ours, peer = Fixed(2), Fixed(1, broken="decode_1")
    wanted = plan(2, ["prefill_512", "decode_1"])
    outcome = run({"ours": ours, "peer": peer}, wanted, probes_of("near"))
    assert outcome.failed == {"peer": {"decode_1": "out of memory"}}
    assert peer.asked == ["prefill_512", "decode_1", "prefill_512"]
    assert ours.asked == ["prefill_512", "decode_1"] * 2


def test_a_class_that_is_wanted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WAIT_S", 0.0)
    wanted = rounds.Plan(["decode_1"], 1, 9, 1e9, "near", patience_s=60.0)
    ours = Fixed(1)
    outcome = run({"ours": ours}, wanted, probes_of("far", "far", "far", "near"))
    assert [m.machine_class for m in outcome.measurements] == ["near"]
    hasty = rounds.Plan(["decode_1"], 1, 2, 1e9, "near")
    outcome = run({"ours": ours}, hasty, probes_of("far"))
    assert [m.machine_class for m in outcome.measurements] == ["far", "far"]


def test_a_bench_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path, about = tmp_path / "m.jsonl", {"model": "m"}
    peer = Fixed(1, broken="decode_4")
    first = Progress(path, about)
    first.started("ours", {"start_s": 0.5})
    first.missing("third", "does not build")
    first.diverged("ours", {"kl": 0.25})
    both = plan(1, ["decode_4", "decode_1"])
    run({"ours": Fixed(2), "peer": peer}, both, probes_of("near"), first)
    with path.open("ab") as file:
        file.write(b'{"measurement": {"rou')  # stopped in the middle of a line
    again = Progress(path, about)
    assert again.measurements == first.measurements and len(again.measurements) == 3
    assert again.failed == {"peer": {"decode_4": "out of memory"}}
    assert again.info == {"ours": {"start_s": 0.5}} and again.absent == {"third": "does not build"}
    assert again.divergence == {"ours": {"kl": 0.25}}
    assert rounds.wanted_figures(both, ["ours", "peer"], again) == []
    ours, peer = Fixed(2), Fixed(1)
    run({"ours": ours, "peer": peer}, plan(2, ["decode_1"]), probes_of("near"), again)
    assert (ours.asked, peer.asked) == (["decode_1"], ["decode_1"])
    assert [m.round for m in again.measurements] == [1, 1, 1, 2, 2]
    assert Progress(path, about).measurements == again.measurements
    assert figures.ratios(again.measurements, "ours", "peer", "decode_1") == Spread(2, 2, 2, 2)


def test_progress_of_something_else_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Progress(path, {"code": "1"}).measured(measured(1, "ours", 1))
    assert Progress(path, {"code": "2"}).measurements == []
    assert len(path.with_suffix(".old").read_bytes().splitlines()) == 2
    assert Progress(path, {"code": "2"}).measurements == []


def test_the_digest_follows_what_is_measured(tmp_path: Path) -> None:
    kernel, gateway = tmp_path / "csrc" / "a.cpp", tmp_path / "src/firefront/gateway/b.py"
    for path in (kernel, gateway):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    first = digest_of_code(tmp_path)
    gateway.write_text("2")
    assert digest_of_code(tmp_path) == first
    kernel.write_text("2")
    assert digest_of_code(tmp_path) != first


# -- children, set-up, divergence, report ----------------------------------------------------


def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> ChildSession:
    (tmp_path / "one_child.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(workload.__file__).parent)!r})\n"
        f"from workload import converse\n{body}\nconverse(build)\n"
    )
    monkeypatch.setattr("bench.peers.engine.CHILDREN", tmp_path)
    place = Place(tmp_path, "one", print)
    return ChildSession(place, Path(sys.executable), "one_child", {"vocab_size": 9})


def test_a_child_answers_and_its_own_words_do_not_disturb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
def build(task):
    print("hello from the engine")
    def seconds(prompts, num_output):
        print("working")
        return 0.5 if num_output == 1 else 2.5
    return {"seconds": seconds, "versions": {"engine": "1"}}
"""
    session = child(tmp_path, monkeypatch, body)
    assert session.info["versions"] == {"engine": "1"} and session.info["start_s"] > 0
    assert session.measure("decode_1").tok_s == 32
    with pytest.raises(EngineFailed, match="figures are"):
        session.measure("nonsense")
    assert session.measure("prefill_512").tok_s == 1024
    session.close()
    assert "hello from the engine" in (tmp_path / "one" / "one_child.log").read_text()


def test_a_child_that_dies_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineFailed, match="RuntimeError: no such format"):
        child(tmp_path, monkeypatch, "def build(task): raise RuntimeError('no such format')")


def test_set_up_steps_run_once_and_again_when_their_origin_changes(tmp_path: Path) -> None:
    place, made = Place(tmp_path, "peer", print), []
    for made_from in ("1", "1", "2"):
        place.once("step", made_from, lambda made_from=made_from: made.append(made_from))
    assert made == ["1", "2"]

    def fail() -> None:
        raise CannotSetUp("no")

    with pytest.raises(CannotSetUp):
        place.once("step", "3", fail)
    place.once("step", "2", lambda: made.append("again"))  # what was there is no longer trusted
    assert made == ["1", "2", "again"]


def test_a_command_that_fails_gives_its_last_line(tmp_path: Path) -> None:
    place = Place(tmp_path, "peer", print)
    with pytest.raises(CannotSetUp, match="build: no compiler"):
        place.run("build", ["sh", "-c", "echo first; echo no compiler >&2; exit 3"])
    with pytest.raises(CannotSetUp, match="not done within"):
        place.run("build", ["sleep", "60"], limit_s=0.2)


def test_divergence_of_known_logits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    want = rng.normal(size=(2, divergence.ROWS, 7)).astype(np.float32)
    got = want + rng.normal(scale=0.1, size=want.shape).astype(np.float32)
    want.tofile(tmp_path / "want")
    got.tofile(tmp_path / "got")
    chunks = [[number % 7 for number in range(divergence.CHUNK)] for _ in range(2)]
    same = divergence.compare(tmp_path / "want", tmp_path / "want", chunks, 7)
    assert (same["kl"], same["top1"], same["positions"]) == (0, 1, 510)
    p = np.exp(want) / np.exp(want).sum(axis=-1, keepdims=True)
    q = np.exp(got) / np.exp(got).sum(axis=-1, keepdims=True)
    found = divergence.compare(tmp_path / "want", tmp_path / "got", chunks, 7)
    assert found["kl"] == pytest.approx(float((p * np.log(p / q)).sum(axis=-1).mean()), rel=1e-4)
    assert found["top1"] == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).mean()))
    targets = np.array(chunks[0][divergence.FIRST + 1 :])
    chosen = q[:, np.arange(divergence.ROWS), targets]
    assert found["perplexity"] == pytest.approx(float(np.exp(-np.log(chosen).mean())), rel=1e-4)


def test_another_arm_of_ours_is_named_by_its_options() -> None:
    engine = parse_variant("f32:kv_dtype=f32,activations=f32")
    assert engine.name == "firefront f32"
    assert engine.about.endswith("speculation=off, kv_dtype=f32, activations=f32")
    assert parse_variant("ngram:speculation=ngram").about.endswith(" speculation=ngram")
    for bad in ("f32", "f32:", ":a=b", "f32:a"):
        with pytest.raises(ValueError, match="NAME:key=value"):
            parse_variant(bad)


def test_the_page_names_who_is_absent_and_why() -> None:
    kept = [measured(1, "ours", 2000), measured(1, "peer", 1000)]
    kept += [Measurement(1, "ours", "cached_1000", 5e4, [[0.5, 0.02]], NEAR, NEAR)]
    work = {**WORK, "cached_1000": {"bytes": 1e5, "ops": 2e8}}
    run_alone = {"kl": 0.004, "top1": 0.96}
    result = {
        "model": "m", "class": "near", "threads": 2, "machine": "CPU", "date": "2026-01-01",
        "revision": "abc", "command": report.shown_command(["--text", "../some/t.txt"]),
        "figures": list(work), "engines": ["ours", "peer"], "about": {"ours": "all of it"},
        "info": {"ours": {"start_s": 0.54}}, "limits": figures.limits(kept, "near"),
        "summary": figures.summary(kept, ["ours", "peer"], work, "ours", "near"),
        "divergence": {
            "ours": {"kl": 0.0025, "top1": 0.971, "perplexity": 15.6, "oracle_perplexity": 15.5},
            "peer": {"kl": 0.26, "top1": 0.75, "run": run_alone}, "fourth": {"absent": "no logits"},
        },
        "absent": {"third": "does not build"}, "failed": {"peer": {"decode_32": "out of memory"}},
    }  # fmt: skip
    page = report.markdown(result, ["m.svg"])
    assert "| ours | 2,000 | 0.5 |" in page
    assert "| peer | 1,000 (2.00: 2.00 to 2.00) | - |" in page
    assert "| ours | 667 |" in page  # 2,000 tokens of 1e8 bytes a second, of 30 GB/s
    assert "| ours | 1000 | 0.500 | 0.0200 | 25x |" in page
    assert "| ours | 2.50e-03 | 97.1% | 15.600 | 15.500 | - |" in page
    assert "| peer | 2.60e-01 | 75.0% | - | - | 4.00e-03 |" in page
    absent = ("third: does not build", "peer, decode_32: out of memory", "fourth, KL: no logits")
    for line in absent:
        assert f"- {line}" in page
    assert "`python -m bench.peers --text t.txt`" in page and "some" not in page


def test_the_lot_is_known_engines_and_figures() -> None:
    for name, lot in lot_module.LOTS.items():
        assert set(lot.peers) <= set(lot_module.EVERY_PEER), name
        assert all(workload.kind_of(figure) for figure in lot.figures)
        assert all(parse_variant(variant).name for variant in lot.ours)
    assert lot_module.lot_of("another") == lot_module.SMALL
