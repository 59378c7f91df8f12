"""Training beside PEFT: the same rows, tokens, order, rank and learning rate, in turns.

    python -m bench.tuning DATA --model starter --rows 320 --dtypes float32,bfloat16 --json out.json

DATA holds train.jsonl with {"text", "label"} a line (banking77). Rows are drawn with seed 0 and put
into batches of like lengths, which is best for PEFT's padding; both sides take the batches in one
shuffled order, from the same token ids. Each side trains in a process of its own with all threads
and leaves its adapter under --work, for `firefront eval`. Seconds are those of the training loop,
without loading. PEFT's base is what transformers reads from the same GGUF, kept in --work.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.tasks import BANKING, conversation

BATCH, RANK, ALPHA, SEED = 16, 16, 32.0, 0


def main() -> None:
    options = parsed()
    if options.side:
        task = json.loads(Path(options.task).read_text())
        report = train_ours(task) if options.side == "ours" else train_peft(task, options.side)
        Path(options.json).write_text(json.dumps(report))
        return
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    task = make_task(options, work)
    (work / "task.json").write_text(json.dumps(task))
    sides = ["ours", *(f"peft-{dtype}" for dtype in options.dtypes.split(","))]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            runs[side].append(run_side(side, work))
            told = {key: value for key, value in runs[side][-1].items() if key != "losses"}
            print(side, json.dumps(told), file=sys.stderr, flush=True)
    report = {key: task[key] for key in ("model", "num_rows", "learning_rate", "num_tokens")}
    report["sides"] = runs
    best = {side: min(run["seconds"] for run in found) for side, found in runs.items()}
    report["seconds"] = best
    rivals = [seconds for side, seconds in best.items() if side != "ours"]
    report["times_faster"] = round(min(rivals) / best["ours"], 3) if rivals else None
    text = json.dumps(report, indent=1)
    print(text) if options.json is None else Path(options.json).write_text(text + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--work", default="build/bench-tuning")
    parser.add_argument("--json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_task(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The rows as token ids in the order of training, and everything else that both sides need."""
    from firefront.text.tokenizer import load_tokenizer
    from firefront.tuning.examples import chat_examples
    from firefront.weights.model_store import ModelStore

    store = ModelStore()
    if (found := store.get(options.model)) is None:
        sys.exit(f"{options.model}: firefront pull {options.model} comes first")
    path = store.path(found)
    tokenizer = load_tokenizer(path)
    lines = Path(options.data, "train.jsonl").read_text().splitlines()
    drawn = [json.loads(line) for line in lines]
    rng = random.Random(SEED)
    rng.shuffle(drawn)
    examples = []
    for row in drawn[: options.rows]:
        asked = conversation(BANKING, row["text"], {"content": row["label"]})
        examples += chat_examples(tokenizer, asked["messages"])
    examples.sort(key=lambda example: len(example.token_ids))
    batches = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
    full = [batch for batch in batches if len(batch) == BATCH]
    rng.shuffle(full)
    ordered = [example for batch in full + batches[len(full) :] for example in batch]
    return {
        "model": options.model,
        "path": str(path),
        "work": str(work),
        "learning_rate": options.rate,
        "num_rows": len(ordered),
        "num_tokens": sum(len(example.token_ids) for example in ordered),
        "rows": [(example.token_ids.tolist(), example.prompt_len) for example in ordered],
    }


def run_side(side: str, work: Path) -> dict[str, Any]:
    """Train in a process of its own."""
    out = work / f"{side}.json"
    command = [sys.executable, "-m", "bench.tuning", "--side", side]
    subprocess.run(
        [*command, "--task", str(work / "task.json"), "--json", str(out)],
        check=True,
        stdout=sys.stderr,
    )
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def report_of(seconds: float, num_tokens: int, losses: list[float]) -> dict[str, Any]:
    import resource

    return {
        "seconds": round(seconds, 2),
        "tok_s": round(num_tokens / seconds, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "last_loss": round(sum(losses[-20:]) / len(losses[-20:]), 4),
        "losses": [round(loss, 4) for loss in losses],
    }


def settings_of(task: dict[str, Any]) -> Any:
    from firefront.tuning.settings import LoraSettings, OptimizerSettings, TrainConfig

    num_steps = -(-task["num_rows"] // BATCH)
    return TrainConfig(
        lora=LoraSettings(rank=RANK, alpha=ALPHA),
        optimizer=OptimizerSettings(
            learning_rate=task["learning_rate"],
            schedule="linear",
            warmup=min(1.0, 10 / num_steps),
        ),
        batch_size=BATCH,
        shuffle=False,
        save_every=10**9,
        seed=SEED,
    )


def train_ours(task: dict[str, Any]) -> dict[str, Any]:
    """By the product's own trainer."""
    import shutil

    from firefront.tuning.events import Event, Metrics
    from firefront.tuning.examples import Example
    from firefront.tuning.train import train

    folder = Path(task["work"], "ours")
    shutil.rmtree(folder, ignore_errors=True)
    examples = []
    for ids, prompt_len in task["rows"]:
        weights = np.zeros(len(ids), np.float32)
        weights[prompt_len:] = 1
        examples.append(Example(np.array(ids, np.int32), weights, prompt_len))
    steps: list[Metrics] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Metrics):
            steps.append(event)

    train(task["path"], examples, [], settings_of(task), folder, on_event)
    seconds = sum(step.tokens / step.tokens_s for step in steps)
    return report_of(seconds, task["num_tokens"], [step.train_loss for step in steps])


def train_peft(task: dict[str, Any], side: str) -> dict[str, Any]:
    """As PEFT's users do: padded batches through transformers, the adapter in float32."""
    import peft
    import torch

    torch.manual_seed(SEED)
    dtype = getattr(torch, side.removeprefix("peft-"))
    model: Any = peft.get_peft_model(
        peft_base(task, dtype),
        peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    settings, rows = settings_of(task).optimizer, task["rows"]
    optimizer = torch.optim.AdamW(trained, weight_decay=0.0)
    num_steps = -(-len(rows) // BATCH)
    losses = []
    model.train()
    started_s = time.perf_counter()
    for step in range(num_steps):
        batch = rows[step * BATCH : (step + 1) * BATCH]
        width = max(len(ids) for ids, _ in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for row, (tokens, prompt_len) in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            labels[row, prompt_len : len(tokens)] = ids[row, prompt_len : len(tokens)]
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.param_groups[0]["lr"] = settings.rate(step, num_steps, "supervised")
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - started_s
    model.save_pretrained(Path(task["work"], side))
    return report_of(seconds, task["num_tokens"], losses)


def peft_base(task: dict[str, Any], dtype: Any) -> Any:
    """The base as transformers has it, from a folder that is made once."""
    import transformers

    path, folder = Path(task["path"]), Path(task["work"], f"{task['model']}-hf")
    if not (folder / "config.json").exists():
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
        model.is_quantized, model.hf_quantizer = False, None  # it is read as float32
        del model.config.quantization_config
        model.save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


if __name__ == "__main__":
    main()
