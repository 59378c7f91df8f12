"""The function-calling data of BFCL: its functions as tools, its answers as a judge.

Knows the files' form and no server. A function's parameters become JSON Schema that allows no
parameter it does not name. An answer lists for each parameter the values that are right; "" among
them says that it may be absent. A call is right if its function, all its parameters and nothing
else are: numbers by value, texts without regard to case, spaces and punctuation.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from firefront.tuning.evaluation.calls import Call, are_right

TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_KEPT = ("description", "enum", "default", "minItems", "maxItems", "minimum", "maximum")


@dataclass
class Item:
    """A question, the functions offered, and the answer: None if no function is of use."""

    id: str
    messages: list[dict[str, Any]]
    functions: list[dict[str, Any]]
    answer: list[dict[str, Any]] | None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The functions as a client of OpenAI's API gives them."""
        return [
            {
                "type": "function",
                "function": {
                    "name": function["name"],
                    "description": function.get("description", ""),
                    "parameters": json_schema(function["parameters"]),
                },
            }
            for function in self.functions
        ]

    def violation(self, call: Call) -> str | None:
        """Why a call is not of one of the functions and its schema; None if it is."""
        for function in self.functions:
            if function["name"] == call.name:
                schema = json_schema(function["parameters"])
                validator = jsonschema.Draft202012Validator(schema)
                for error in validator.iter_errors(call.arguments):
                    return f"{call.name}{error.json_path[1:]}: {error.message}"
                return None
        return f"there is no function {call.name!r}"

    def is_right(self, calls: list[Call]) -> bool:
        """Whether the calls are the answer, in any order."""
        return self.answer is not None and are_right(calls, self.answer)


def load_items(folder: Path, category: str, limit: int | None = None) -> list[Item]:
    """A category's items in the file's order; with a limit, so many spread evenly over it."""
    answers_path = folder / f"{category}.answer.jsonl.gz"
    answers = {}
    if answers_path.exists():
        answers = {line["id"]: line["ground_truth"] for line in _lines(answers_path)}
    items = [
        Item(line["id"], line["question"][0], line["function"], answers.get(line["id"]))
        for line in _lines(folder / f"{category}.jsonl.gz")
    ]
    if limit is None or limit >= len(items):
        return items
    return [items[at * len(items) // limit] for at in range(limit)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def json_schema(given: dict[str, Any]) -> dict[str, Any]:
    """A type description of the data set as JSON Schema."""
    made = {key: given[key] for key in _KEPT if key in given}
    kind = given.get("type", "any")
    if kind != "any":
        made["type"] = TYPES.get(kind, kind)
    if isinstance(given.get("items"), dict):
        made["items"] = json_schema(given["items"])
    if isinstance(properties := given.get("properties"), dict):
        made["properties"] = {name: json_schema(each) for name, each in properties.items()}
        made["required"] = [name for name in given.get("required", ()) if name in properties]
        made["additionalProperties"] = False
    return made


def plain_prompt(item: Item) -> list[dict[str, Any]]:
    """The question for a model that is given the functions as text alone."""
    described = "\n".join(
        json.dumps(tool["function"], ensure_ascii=False) for tool in item.tools
    )
    system = (
        "You may call these functions, one JSON description a line:\n"
        f"{described}\n\n"
        "If one of them is of use, answer with the call and nothing else, as JSON:\n"
        '{"name": <name of the function>, "arguments": {<parameter>: <value>, ...}}\n'
        "If none of them is of use, answer in words."
    )
    return [{"role": "system", "content": system}, *item.messages]


def plain_calls(text: str) -> list[Call] | None:
    """The calls in a model's free text: the first JSON in it that reads as calls.

    [] if nothing looks like JSON; None if something does and cannot be read.
    """
    decoder = json.JSONDecoder()
    for at, char in enumerate(text):
        if char not in "[{":
            continue
        try:
            value, _ = decoder.raw_decode(text, at)
        except ValueError:
            continue
        entries = value if isinstance(value, list) else [value]
        if entries and all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries):
            return [
                Call(entry["name"], entry.get("arguments", entry.get("parameters", {})))
                for entry in entries
            ]
    return None if '"name"' in text else []
