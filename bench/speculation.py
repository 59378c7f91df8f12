"""Speculation against our own plain decode, interleaved in one run: an edit of a text, and code.

    python bench/speculation.py edit --model starter --out bench/results/speculation-edit.json
    python bench/speculation.py plain --model starter
    python bench/speculation.py code --data HumanEval.jsonl --model qwen-coder-1.5b \
        --draft qwen-coder-0.5b

Each round runs every prompt with each arm, in changing order; seconds are decode only, from the
first token (with --streams, of the last stream to have one) to the last. The ratio of an arm is the
median of its rounds' ratios to the plain arm of the same round. Tokens must be identical, or the
run fails.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from firefront.backends.cpu.executor import load, load_with_draft
from firefront.core.clock import SystemClock
from firefront.core.deployment import Deployment
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.engine.load import DRAFT_ROWS
from firefront.text.tokenizer import load_tokenizer
from firefront.weights.fetch import resolve

TEXT = """\
The harbour of Varn wakes before the town does. At four in the morning the first boats come back
from the banks, low in the water, and the women of the fish hall light the lamps along the quay. By
five the auction has begun. Nobody shouts; bids are made with two fingers on the rim of a hat, and
the auctioneer, a thin man called Osric, has not missed one in thirty years. What he sells by six is
in the capital by noon, packed in ice that comes down from the glacier in carts with iron wheels.

In winter the ice is free and the fish are few. Then the men mend nets in the long shed behind the
church, and the talk turns to the old harbour wall, which the sea takes stone by stone. Every spring
the council votes to repair it, and every autumn the money goes to the road instead. The oldest of
the fishermen, Brann, says that the wall will outlive the council. He has said so for forty years,
and so far he has been right: three councils have come and gone, and the wall still stands.

Strangers who stay longer than a week are asked to help with the nets. It is not work that can be
taught in words. One sits beside somebody who can do it, and watches, and after some days the hands
begin to know. That, says Brann, is how everything worth knowing is learned in Varn."""
EDITS = (
    "Repeat the following text exactly, but write the name Varn as Tolm everywhere.",
    "Copy this text word for word, but change the name Brann to Henrik.",
    "Write this text again without any change, only replace Osric by Mikkel.",
)
CODE = (
    "Write a Python class for a bounded LRU cache with get, put and len, and doctests.",
    "Write a Python function that parses a CSV line with quoted fields, with tests.",
    "Write a Python function that merges overlapping intervals, with an explanation and tests.",
)
PLAIN = (
    "Explain how a steam engine turns heat into motion.",
    "Write a short story about a clock that runs backwards.",
    "What should I look at when I buy a used bicycle?",
    "Describe the water cycle for a curious child.",
)


class Arm:
    """One way of decoding: an engine, and the seconds that each prompt took."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        self._count = 0

    def run(self, prompts: list[list[int]], options, **fields: Any):
        """Seconds of decoding, summed over batches of as many prompts as streams; all tokens."""
        total_s, outputs = 0.0, []
        for first in range(0, len(prompts), options.streams):
            seconds, tokens = self._batch(prompts[first : first + options.streams], options, fields)
            total_s += seconds
            outputs += tokens
        return total_s, outputs

    def _batch(self, prompts: list[list[int]], options, fields: dict[str, Any]):
        ids = []
        for seed, prompt in enumerate(prompts):
            self._count += 1
            ids.append(str(self._count))
            sampling = SamplingParams(
                temperature=options.temperature, seed=seed, max_tokens=options.tokens, **fields
            )
            self.engine.submit(
                Submit(request_id=ids[-1], generation=0, token_ids=prompt, sampling=sampling)
            )
        tokens: dict[str, list[int]] = {name: [] for name in ids}
        started_s = 0.0
        while self.engine.has_work:
            for delta in self.engine.step():
                assert delta.error is None, delta.error
                tokens[delta.request_id] += delta.token_ids
            if not started_s and all(tokens.values()):
                started_s = time.perf_counter()
        return time.perf_counter() - started_s, list(tokens.values())


def measure(arms: list[Arm], prompts: list[list[int]], options, **fields) -> dict[str, Any]:
    """Rounds of all arms in turns; the first round warms up and teaches, and is not counted."""
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    wanted = None
    for number in range(options.rounds + 1):
        for arm in arms if number % 2 else reversed(arms):
            total_s, outputs = arm.run(prompts, options, **fields)
            wanted = wanted or outputs
            assert outputs == wanted, f"{arm.name}: tokens differ"
            if number:
                seconds[arm.name].append(total_s)
    num_tokens = sum(len(tokens) - 1 for tokens in wanted)
    plain = seconds[arms[0].name]
    result: dict[str, Any] = {"num_tokens": num_tokens, "tokens_identical": True, "arms": {}}
    for arm in arms:
        stats = arm.engine.stats()
        own = seconds[arm.name]
        result["arms"][arm.name] = {
            "tok_s": round(num_tokens / statistics.median(own), 1),
            "ratio": round(statistics.median(p / s for p, s in zip(plain, own, strict=True)), 3),
            "ratios": [round(p / s, 3) for p, s in zip(plain, own, strict=True)],
            "drafted": stats.drafted_tokens,
            "accepted": stats.accepted_tokens,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["edit", "plain", "code"])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--draft", help="draft model, for another arm")
    parser.add_argument(
        "--draft-rows", type=int, default=DRAFT_ROWS, help="of the draft's head; 0: all"
    )
    parser.add_argument("--data", type=Path, help="HumanEval.jsonl; else our own code prompts")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--streams", type=int, default=1, help="at once; prompts come again")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    deployment = Deployment(model=options.model, threads=options.threads, context=2048)
    path = resolve(options.model)
    tokenizer = load_tokenizer(path)
    draft = None
    if options.draft:
        executor, draft = load_with_draft(
            path, resolve(options.draft), deployment, head_rows=options.draft_rows
        )
    else:
        executor = load(path, deployment)
    settings = [("plain", 0, None), ("ngram", 15, None)]
    if draft is not None:
        settings.append(("draft", 15, draft))
    arms = []
    for name, max_draft, drafts in settings:
        config = EngineConfig(max_draft=max_draft, prefix_cache=False)
        arms.append(Arm(name, Engine(executor, tokenizer, config, SystemClock(), drafts)))
    if options.task == "code" and options.data is None:
        asks = list(CODE[: options.prompts])
    elif options.task == "code":
        lines = options.data.read_text().splitlines()[: options.prompts]
        asks = ["Complete this function.\n" + json.loads(line)["prompt"] for line in lines]
    elif options.task == "edit":
        asks = [f"{edit}\n\n{TEXT}" for edit in EDITS[: options.prompts]]
    else:
        asks = list(PLAIN[: options.prompts])
    prompts = [tokenizer.encode_chat([{"role": "user", "content": ask}]) for ask in asks]
    prompts = [prompts[i % len(prompts)] for i in range(max(len(prompts), options.streams))]
    result = {
        "task": options.task,
        "model": options.model,
        "draft": options.draft,
        "draft_rows": options.draft_rows if options.draft else None,
        "threads": executor.num_threads,
        "prompt_tokens": [len(prompt) for prompt in prompts],
        "max_tokens": options.tokens,
        "streams": options.streams,
        "temperature": options.temperature,
        **measure(arms, prompts, options, ignore_eos=options.task == "plain"),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
