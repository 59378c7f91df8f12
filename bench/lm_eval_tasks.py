"""lm-eval through `local-completions` beside transformers, on the same weights and tokens.

    python -m pip install --target build/lm_eval lm_eval aiohttp tenacity requests
    python -m bench.lm_eval_tasks --data datasets --model starter --json out.json

Three tasks of multiple choice are made from local files (banking77, sms_spam, snips), with no data
set of lm-eval's own. Arms: `hf` (lm-eval's transformers model in float32), `f32` (`firefront serve
--activations f32`) and `default`. transformers loses SmolLM's digit split and Qwen's
NFC when it reads a GGUF file's tokenizer, so both are put back and the tokenizer is saved for all
arms, which thus score the same tokens; the texts' ids are first compared with our own tokenizer's.
"""

import argparse
import json
import logging
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.served import served
from firefront.text.tokenizer import load_tokenizer
from firefront.weights.fetch import resolve
from firefront.weights.gguf import GGUFFile

ARMS = {
    "hf": None,
    "f32": ["--activations=f32"],
    "default": [],
}
MAX_CHARS = 60  # of a text
Doc = dict[str, Any]


def choice_docs(
    rows: list[tuple[str, str]], limit: int, num_choices: int, ask: str
) -> list[Doc]:
    """`limit` documents drawn from rows of text and label, each with some labels to choose from."""
    rng = random.Random(0)
    labels = sorted({label for _, label in rows})
    docs = []
    for text, label in rng.sample(rows, min(limit, len(rows))):
        others = [other for other in labels if other != label]
        others = rng.sample(others, min(num_choices - 1, len(others)))
        choices = sorted([label, *others])
        docs.append(
            {"context": ask.format(text=text), "choices": choices, "gold": choices.index(label)}
        )
    return docs


def read_lines(path: Path) -> list[Doc]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_tasks(data: Path, limit: int, num_choices: int) -> dict[str, list[Doc]]:
    """The three tasks' documents, short ones only."""
    made = {}
    for name, file, key, word, ask in (
        ("banking77", "test.jsonl", "label", words, "Client: {text}\nThis is about"),
        ("sms_spam", "all.jsonl", "label", words, "Message: {text}\nIs it ham or spam? It is"),
        ("snips", "test.jsonl", "intent", last_word, "Client: {text}\nThis is about a"),
    ):
        rows = [(row["text"], word(row[key])) for row in read_lines(data / name / file)]
        short = [row for row in rows if len(row[0]) <= MAX_CHARS]
        made[f"local_{name}"] = choice_docs(short, limit, num_choices, ask)
    return made


def words(label: str) -> str:
    """`card_arrival` as `card arrival`."""
    return label.replace("_", " ")


def last_word(label: str) -> str:
    """`PlayMusic` as `music`."""
    return re.findall("[A-Z][a-z]+", label)[-1].lower()


class Documents(list[Doc]):
    """Documents with what lm-eval asks of a data set."""

    @property
    def features(self) -> Doc:
        return self[0]


def lm_eval_tasks(documents: dict[str, list[Doc]]) -> list[Any]:
    from lm_eval.api.task import ConfigurableTask

    def dataset(docs: list[Doc]) -> Callable[..., Any]:
        return lambda **_: {"test": Documents(docs)}

    return [
        ConfigurableTask(
            config={
                "task": name,
                "custom_dataset": dataset(docs),
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "{{context}}",
                "doc_to_choice": "choices",
                "doc_to_target": "gold",
            }
        )
        for name, docs in documents.items()
    ]


def save_tokenizer(model: Path, folder: Path) -> None:
    """transformers' reading of the model's tokenizer with what it loses put back."""
    from tokenizers import normalizers, pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
    backend = tokenizer._tokenizer
    file = GGUFFile(model)
    cut = file.metadata.get("tokenizer.ggml.pre")
    file.close()
    if cut == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    elif cut == "qwen2":
        backend.normalizer = normalizers.NFC()
    tokenizer.save_pretrained(folder)


def check_tokenizer(model: Path, folder: Path, documents: dict[str, list[Doc]]) -> int:
    """How many texts were compared; SystemExit if a text's ids are not our tokenizer's."""
    from transformers import AutoTokenizer

    ours, saved = load_tokenizer(model), AutoTokenizer.from_pretrained(folder)
    texts = [
        f"{doc['context']} {choice}"
        for docs in documents.values()
        for doc in docs
        for choice in doc["choices"]
    ]
    for text in texts:
        if list(ours.encode(text)) != saved(text, add_special_tokens=False).input_ids:
            raise SystemExit(f"the saved tokenizer reads this otherwise than ours: {text!r}")
    return len(texts)


@contextmanager
def opened(arm: str, model: str, tokenizer: Path, batch: int) -> Iterator[Any]:
    """lm-eval's model of an arm."""
    if arm == "hf":
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path = resolve(model)
        weights = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        loaded = AutoTokenizer.from_pretrained(tokenizer)
        yield HFLM(pretrained=weights, tokenizer=loaded, batch_size=batch, device="cpu",
                   add_bos_token=False)  # fmt: skip
        return
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    with served(model, "--threads=2", *(ARMS[arm] or ())) as (_, url):
        yield LocalCompletionsAPI(
            base_url=f"{url}/v1/completions", model=model, tokenizer=str(tokenizer),
            tokenizer_backend="huggingface", num_concurrent=2, batch_size=batch, max_retries=1,
        )  # fmt: skip


def run_arm(lm: Any, tasks: list[Any]) -> dict[str, list[list[float]]]:
    """Each task's items' log-probabilities of their choices."""
    import lm_eval

    result = lm_eval.simple_evaluate(
        lm, tasks=tasks, bootstrap_iters=0, log_samples=True, num_fewshot=0
    )
    return {
        name: [
            [float(answer[0][0] if isinstance(answer[0], list | tuple) else answer[0])
             for answer in sample["resps"]]
            for sample in sorted(samples, key=lambda sample: sample["doc_id"])
        ]
        for name, samples in result["samples"].items()
    }  # fmt: skip


def chosen(scores: list[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def compared(
    docs: list[Doc], own: list[list[float]], reference: list[list[float]]
) -> dict[str, Any]:
    """An arm's accuracy on a task, and how it differs from the reference."""
    right = [chosen(scores) == doc["gold"] for scores, doc in zip(own, docs, strict=True)]
    same = [chosen(a) == chosen(b) for a, b in zip(own, reference, strict=True)]
    gaps = [
        abs(x - y) for a, b in zip(own, reference, strict=True) for x, y in zip(a, b, strict=True)
    ]
    return {
        "items": len(docs),
        "accuracy": round(sum(right) / len(docs), 4),
        "num_right": sum(right),
        "other_choices": same.count(False),
        "max_logprob_gap": max(gaps),
    }


def table(result: dict[str, dict[str, Any]]) -> str:
    """Markdown, a row for each task and arm."""
    rows = [
        "| task | arm | items | accuracy | points from hf | other choices | largest gap (nats) |",
        "| --- " * 7 + "|",
    ]
    for task, arms in result.items():
        for arm, own in arms.items():
            points = 100 * (own["num_right"] - arms["hf"]["num_right"]) / own["items"]
            rows.append(
                f"| {task} | {arm} | {own['items']} | {100 * own['accuracy']:.2f} % "
                f"| {points:+.2f} | {own['other_choices']} | {own['max_logprob_gap']:.2g} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--lm-eval", type=Path, default=Path("build/lm_eval"))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--arms", default="hf,f32,default")
    parser.add_argument("--limit", type=int, default=340, help="items of each task")
    parser.add_argument("--choices", type=int, default=3, help="of an item, at most")
    parser.add_argument("--batch", type=int, default=8, help="prompts of a request")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.path.append(str(options.lm_eval.resolve()))  # last, so that our own packages win
    logging.getLogger().setLevel(logging.WARNING)
    documents = make_tasks(options.data, options.limit, options.choices)
    scores: dict[str, dict[str, list[list[float]]]] = {}
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = resolve(options.model)
        save_tokenizer(path, folder)
        num_texts = check_tokenizer(path, folder, documents)
        for arm in options.arms.split(","):
            started_s = time.perf_counter()
            with opened(arm, options.model, folder, options.batch) as lm:
                scores[arm] = run_arm(lm, lm_eval_tasks(documents))
            seconds[arm] = round(time.perf_counter() - started_s, 1)
            print(f"{arm}: {seconds[arm]} s", flush=True)
    result = {
        task: {arm: compared(docs, own[task], scores["hf"][task]) for arm, own in scores.items()}
        for task, docs in documents.items()
    }
    whole = {"model": options.model, "texts": num_texts, "seconds": seconds, "tasks": result}
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps({**whole, "scores": scores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
