"""Every opt-in mode beside the default: speed, divergence from float32, perplexity, KV memory.

python bench/modes.py MODEL.gguf TEXT [--tokens 4096] [--rounds 5] [--json FILE]

The oracle is transformers in float32 on the dequantised weights (it wants `accelerate` installed);
chunks of 512 tokens, all positions. Speeds are of the executor alone, modes in turns, medians of
the rounds; gains are of the same round. Prints the table of docs/modes.md.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from chunk_logits import our_logits
from quality import CHUNK, Score, chunks_of, open_oracle, read_text

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.core.deployment import Deployment
from firefront.engine.profile import step_of, touch_blocks
from firefront.ops import Sizes
from firefront.text.tokenizer import load_tokenizer

MODES: dict[str, dict[str, str]] = {
    "default": {},
    "`kv_dtype=int8`": {"kv_dtype": "int8"},
    "`prefill=turbo`": {"prefill": "turbo"},
    "both": {"kv_dtype": "int8", "prefill": "turbo"},
    "`activations=f32`": {"activations": "f32"},
}
STEPS = {
    "prefill 512": Sizes.prefill(512),
    "1 stream at 1,024": Sizes.decode(1, 1024),
    "16 streams at 1,024": Sizes.decode(16, 1024),
}
NUM_BLOCKS = 16 * 1024 // 16
STEP_S = 0.4  # a step is repeated for so long in each round


def open_mode(model: Path, fields: dict[str, str], context: int, num_blocks: int) -> CpuExecutor:
    deployment = Deployment(
        model=str(model), context=context, token_budget=512, kv_blocks=num_blocks, **fields
    )
    return load(model, deployment)


def seconds(executor: CpuExecutor, sizes: Sizes) -> float:
    inputs, rows = step_of(sizes, executor.vocab_size)
    executor.step(inputs, rows)
    until_s, times = time.perf_counter() + STEP_S, []
    while time.perf_counter() < until_s or len(times) < 2:
        started_s = time.perf_counter()
        executor.step(inputs, rows)
        times.append(time.perf_counter() - started_s)
    return statistics.median(times)


def speeds(model: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds a step, for each mode and kind of step, one for each round."""
    found: dict[str, dict[str, list[float]]] = {mode: {s: [] for s in STEPS} for mode in MODES}
    executors = {mode: open_mode(model, f, 1024, NUM_BLOCKS) for mode, f in MODES.items()}
    for executor in executors.values():
        touch_blocks(executor, NUM_BLOCKS)
    for _ in range(rounds):
        for step, sizes in STEPS.items():
            for mode, executor in executors.items():
                found[mode][step].append(seconds(executor, sizes))
    return found


def qualities(model: Path, text: Path, num_tokens: int) -> dict[str, dict[str, float]]:
    tokenizer = load_tokenizer(model)
    chunks, oracle = chunks_of(read_text(text), tokenizer, num_tokens), open_oracle(model)
    executors = {mode: open_mode(model, f, CHUNK, 64) for mode, f in MODES.items()}
    scores = {mode: Score() for mode in MODES}
    for index, chunk in enumerate(chunks):
        want_TV = oracle(chunk)[:, : tokenizer.vocab_size]
        targets = torch.tensor(chunk[1:], dtype=torch.long)
        for mode, executor in executors.items():
            got_TV = torch.tensor(our_logits(executor, chunk))
            scores[mode].add(want_TV[:-1], got_TV[:-1], targets)
        print(f"chunk {index + 1} of {len(chunks)}", flush=True)
    return {mode: score.result() for mode, score in scores.items()}


def table(quality: dict[str, dict[str, float]], speed: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: gains in speed against the default of the same round, then quality."""
    head = ["mode", *STEPS, "KL", "top-1", "perplexity"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for mode in MODES:
        cells = [mode]
        for step in STEPS:
            pairs = zip(speed["default"][step], speed[mode][step], strict=True)
            cells.append(f"{statistics.median(base / own for base, own in pairs):.2f}x")
        q = quality[mode]
        rise = q["perplexity"] / q["oracle_perplexity"] - 1
        cells += [f"{q['kl']:.2e}", f"{q['top1']:.1%}", f"{q['perplexity']:.3f} ({rise:+.2%})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(2)
    speed = speeds(args.model, args.rounds)
    quality = qualities(args.model, args.text, args.tokens)
    print(table(quality, speed))
    if args.json:
        result = {"model": args.model.name, "quality": quality, "seconds": speed}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
