"""bench/start.py on the starter, and the bound on memory that it reports."""

from pathlib import Path

import pytest

from bench import start

MIB = 1 << 20


def test_a_run_keeps_to_the_bound_on_memory(starter_path: Path) -> None:
    """Peak memory of loading, a first token and a full KV cache, against weights and KV cache."""
    run = start.run_child(str(starter_path), 64, threads=2)
    plan = run["plan"]
    assert plan["weight_bytes"] > 80 * MIB and plan["kv_bytes"] > 20 * MIB
    assert run["peak_bytes"] <= 1.15 * (plan["weight_bytes"] + plan["kv_bytes"]) + 80_000_000
    # All of the weights are in memory, so a smaller peak would be a wrong measurement.
    assert run["peak_bytes"] >= run["first_token_peak_bytes"] > plan["weight_bytes"]
    assert tuple(run["seconds"]) == start.PHASES and min(run["seconds"].values()) > 0
    assert run["first_token_s"] == pytest.approx(sum(run["seconds"].values()))
    medians = start.summary([run], [])
    assert medians["peak_to_plan"] == run["peak_bytes"] / plan["total_bytes"]
    assert f"peak: {run['first_token_peak_bytes'] / MIB:.0f} MiB" in start.text(medians, plan)


def test_summary_takes_medians() -> None:
    plan = {f"{name}_bytes": 100 * MIB for name in ("weight", "kv", "buffer", "process", "total")}
    runs = [
        {
            "seconds": dict.fromkeys(start.PHASES, seconds),
            "first_token_s": 4 * seconds,
            "first_token_peak_bytes": peak,
            "peak_bytes": 2 * peak,
            "plan": plan,
        }
        for seconds, peak in ((0.1, 50 * MIB), (0.3, 60 * MIB), (0.2, 40 * MIB))
    ]
    servers = [{"ready": ready, "first token": 2 * ready} for ready in (1.0, 3.0, 2.0)]
    medians = start.summary(runs, servers)
    assert medians["seconds"] == dict.fromkeys(start.PHASES, 0.2)
    assert medians["first_token_s"] == 0.8 and medians["peak_to_plan"] == 1.0
    assert medians["server_s"] == {"ready": 2.0, "first token": 4.0}
    assert "server: ready after 2000 ms, first token after 4000 ms" in start.text(medians, plan)
