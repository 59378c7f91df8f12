"""Public data sets as conversations to tune and evaluate on: OpenAI's chat JSONL.

    python -m bench.tasks DATASETS build/tasks

DATASETS has a folder each: `banking77` and `snips` (train.jsonl, test.jsonl) and `sroie_receipts`
(train.jsonl.gz, test.jsonl.gz). Writes NAME-train.jsonl and NAME-test.jsonl:

- banking77: a query, answered with one of 77 intents; banking77-listed: the same rows with the
  intents in the prompt, as a model that was not tuned needs them;
- snips: a request, answered with a call of one of 7 functions; slots are its arguments;
- sroie: a receipt's text, answered with a JSON object of company, date, address and total.
"""

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Make = Callable[[Json], Json]

BANKING = "Classify the banking query into an intent label."
LISTED = (
    "Classify the banking query into one of the intent labels below. Answer with the label, "
    "exactly as it is written, and nothing else.\n\n{labels}"
)
SNIPS = "Call the function that does what the user asks for."
SROIE = (
    "Extract company, date, address and total from the receipt. Answer with a JSON object with "
    "these four keys and nothing else; leave out what is not there."
)


def banking77(rows: list[Json]) -> Make:
    """The prompt is that of the PEFT run that tuning is measured against."""
    return lambda row: conversation(BANKING, row["text"], {"content": row["label"]})


def banking77_listed(rows: list[Json]) -> Make:
    labels = "\n".join(sorted({row["label"] for row in rows}))
    system = LISTED.format(labels=labels)
    return lambda row: conversation(system, row["text"], {"content": row["label"]})


def snips(rows: list[Json]) -> Make:
    tools = snips_tools(rows)
    return lambda row: {**_called(row), "tools": tools}


def _called(row: Json) -> Json:
    """A slot with several values has them separated by commas."""
    arguments = {slot: ", ".join(values) for slot, values in row["slots"].items()}
    function = {"name": row["intent"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    call = {"id": "call_0", "type": "function", "function": function}
    return conversation(SNIPS, row["text"], {"content": None, "tool_calls": [call]})


def sroie(rows: list[Json]) -> Make:
    def make(row: Json) -> Json:
        answer = json.dumps(row["fields"], ensure_ascii=False)
        return conversation(SROIE, row["text"], {"content": answer})

    return make


def conversation(system: str, text: str, answer: Json) -> Json:
    return {
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": text},
            {"role": "assistant", **answer},
        ]
    }


def snips_tools(rows: list[Json]) -> list[Json]:
    """A function for each intent, a parameter for each of its slots, none of them required."""
    slots: dict[str, set[str]] = {}
    for row in rows:
        slots.setdefault(row["intent"], set()).update(row["slots"])
    return [
        {
            "type": "function",
            "function": {
                "name": intent,
                "parameters": {
                    "type": "object",
                    "properties": {slot: {"type": "string"} for slot in sorted(own)},
                },
            },
        }
        for intent, own in sorted(slots.items())
    ]


# Name -> its folder, and from its training rows how a row becomes a conversation.
TASKS: dict[str, tuple[str, Callable[[list[Json]], Make]]] = {
    "banking77": ("banking77", banking77),
    "banking77-listed": ("banking77", banking77_listed),
    "snips": ("snips", snips),
    "sroie": ("sroie_receipts", sroie),
}


def read(folder: Path, split: str) -> list[Json]:
    """The rows of a split, plain or compressed."""
    path = folder / f"{split}.jsonl"
    return list(_lines(path if path.exists() else folder / f"{split}.jsonl.gz"))


def _lines(path: Path) -> Iterator[Json]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write(datasets: Path, out: Path, name: str) -> list[Path]:
    """Both splits of a task."""
    folder, maker = TASKS[name]
    train = read(datasets / folder, "train")
    make = maker(train)
    paths = []
    for split, rows in (("train", train), ("test", read(datasets / folder, "test"))):
        path = out / f"{name}-{split}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(make(row), ensure_ascii=False) + "\n")
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", type=Path, help="folder with a folder for each data set")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in TASKS:
        for path in write(options.datasets, options.out, name):
            print(path, sum(1 for _ in path.open("rb")), "rows")


if __name__ == "__main__":
    main()
