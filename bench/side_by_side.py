"""firefront and llama.cpp in turns on the same file and threads: ratios of one machine class.

python bench/side_by_side.py MODEL.gguf --llama-bin FOLDER --probe PROGRAM [--rounds 5] [--json F]

FOLDER holds llama-bench and llama-batched-bench. The probe runs around every arm; a round counts
only if the machine's class stayed the same throughout. Prefill of 512 tokens, decode of one stream
and of 16 (decode only: 128 in, 64 out each); speeds are tokens per second.
"""

import argparse
import json
import re
import statistics
import subprocess
from pathlib import Path

from firefront.core.deployment import Deployment
from firefront.engine.bench import DECODE_LEN, PREFILL_LEN, PROMPT_LEN, Runner, run_probe
from firefront.engine.load import build_engine

ARMS = ("prefill_512", "decode_1", "decode_16")


def ours(runner: Runner) -> dict[str, float]:
    prefill_s = runner.seconds([runner.prompt(PREFILL_LEN)], 1)
    result = {"prefill_512": PREFILL_LEN / prefill_s}
    for streams in (1, 16):
        prompts = [runner.prompt(PROMPT_LEN) for _ in range(streams)]
        short_s = runner.seconds(prompts, 1)
        prompts = [runner.prompt(PROMPT_LEN) for _ in range(streams)]
        long_s = runner.seconds(prompts, DECODE_LEN + 1)
        result[f"decode_{streams}"] = streams * DECODE_LEN / (long_s - short_s)
    return result


def llama_cpp(folder: Path, model: Path, threads: int) -> dict[str, float]:
    bench = [folder / "llama-bench", "-m", model, "-t", threads, "-p", PREFILL_LEN, "-n", 64]
    rows = json.loads(output([*bench, "-r", 1, "-o", "json"]))
    result = {
        "prefill_512" if row["n_prompt"] else "decode_1": float(row["avg_ts"]) for row in rows
    }
    batched = [folder / "llama-batched-bench", "-m", model, "-t", threads, "-tb", threads]
    sizes = ["-c", 4096, "-npp", PROMPT_LEN, "-ntg", DECODE_LEN, "-npl", 16]
    table = output([*batched, *sizes])
    match = re.search(r"^\|\s*128 \|\s*64 \|\s*16 \|(.*)\|$", table, re.M)
    assert match, table
    result["decode_16"] = float(match[1].split("|")[4])  # S_TG: decode tokens per second
    return result


def output(command: list[object]) -> str:
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return done.stdout.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-bin", type=Path, required=True)
    parser.add_argument("--probe", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    deployment = Deployment(model=f"file:{args.model}", threads=args.threads, context=4096)
    engine, tokenizer = build_engine(deployment)
    runner = Runner(engine, tokenizer.vocab_size)
    runner.seconds([runner.prompt(PROMPT_LEN)], 8)
    rounds = []
    for index in range(args.rounds):
        probes = [run_probe(args.probe)]
        mine = ours(runner)
        probes.append(run_probe(args.probe))
        theirs = llama_cpp(args.llama_bin, args.model, args.threads)
        probes.append(run_probe(args.probe))
        classes = [probe["class"] for probe in probes if probe]
        kept = len(set(classes)) == 1
        ratios = {arm: mine[arm] / theirs[arm] for arm in ARMS}
        rounds.append(
            {"kept": kept, "class": classes, "ours": mine, "llama_cpp": theirs, "ratio": ratios}
        )
        line = "  ".join(
            f"{arm} {mine[arm]:.0f} / {theirs[arm]:.0f} = {ratios[arm]:.2f}" for arm in ARMS
        )
        bandwidth = [probe["bw_gbs"] for probe in probes if probe]
        print(f"round {index + 1} {classes if not kept else classes[0]} {bandwidth}: {line}")
    good = [entry for entry in rounds if entry["kept"]]
    summary = {
        arm: statistics.median(entry["ratio"][arm] for entry in good) for arm in ARMS if good
    }
    print(json.dumps({"rounds_kept": len(good), "median_ratio": summary}, indent=1))
    if args.json:
        args.json.write_text(json.dumps({"rounds": rounds, "median_ratio": summary}) + "\n")


if __name__ == "__main__":
    main()
