"""Calls of functions: whether they parse and match their schema, and how often they are right.

    python -m bench.tool_calls bfcl_v4 --model qwen-coder-0.5b --limit 100 --json out.json

The folder holds BFCL's files. Three arms ask each question, greedy, over HTTP: `tools` (tool_choice
auto), `required` (tool_choice required) and `plain` (the functions as text in the prompt, the calls
read from the answer's text). These categories want one call, so parallel_tool_calls is false.
Without --url it starts `firefront serve`. `right` is of all items; where no function is of use, an
item is right if nothing is called. `right in text`: no call, but the text reads as the right one.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai

from bench.bfcl import Call, Item, load_items, plain_calls, plain_prompt
from bench.served import served

ARMS = ("tools", "required", "plain")
CATEGORIES = "simple_python,multiple,live_simple,irrelevance"
MAX_TOKENS = 320


class Asker:
    """Asks a server an item's question in one of the arms, and judges the answer."""

    def __init__(self, url: str, streams: int) -> None:
        self._sdk = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", timeout=600, max_retries=0
        )
        self._at_once = asyncio.Semaphore(streams)
        self.model = ""

    async def find_model(self) -> None:
        """Take the server's first model."""
        self.model = (await self._sdk.models.list()).data[0].id

    async def ask(self, item: Item, arm: str) -> dict[str, Any]:
        """The item's record: how its calls came out in this arm."""
        fields: dict[str, Any] = {"messages": item.messages}
        if arm == "plain":
            fields["messages"] = plain_prompt(item)
        else:
            choice = "auto" if arm == "tools" else "required"
            fields.update(tools=item.tools, tool_choice=choice, parallel_tool_calls=False)
        async with self._at_once:
            try:
                answer = await self._sdk.chat.completions.create(
                    model=self.model, temperature=0, max_tokens=MAX_TOKENS, **fields
                )
            except openai.APIStatusError as error:
                return {"id": item.id, "refused": str(error.message)[:300]}
        return judged(item, arm, answer.choices[0])


def judged(item: Item, arm: str, choice: Any) -> dict[str, Any]:
    """What a choice's calls are worth."""
    record: dict[str, Any] = {"id": item.id, "finish": choice.finish_reason, "calls": 0}
    calls, unread = read_calls(arm, choice)
    record["calls"] = len(calls) + unread
    if choice.finish_reason == "length":  # a call may be cut anywhere
        record["cut"] = True
    elif unread:
        record["unread"] = unread
    violations = [found for call in calls if (found := item.violation(call)) is not None]
    if violations and not record.get("cut"):
        record["violations"] = violations
    if arm != "plain" and not record["calls"]:
        record["right_in_text"] = item.is_right(plain_calls(choice.message.content or "") or [])
    if item.answer is None:
        record["right"] = not record["calls"]
    else:
        record["right"] = item.is_right(calls) and not unread and not record.get("cut")
    return record


def read_calls(arm: str, choice: Any) -> tuple[list[Call], int]:
    """The calls that parse, and how many do not."""
    if arm == "plain":
        found = plain_calls(choice.message.content or "")
        return (found, 0) if found is not None else ([], 1)
    calls, unread = [], 0
    for call in choice.message.tool_calls or ():
        try:
            calls.append(Call(call.function.name, json.loads(call.function.arguments)))
        except ValueError:
            unread += 1
    return calls, unread


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of one category in one arm."""
    counts = Counter[str]()
    for record in records:
        counts["calls"] += record.get("calls", 0)
        counts["unread"] += record.get("unread", 0)
        counts["violations"] += len(record.get("violations", ()))
        counts["cut"] += bool(record.get("cut"))
        counts["refused"] += "refused" in record
        counts["without_call"] += not record.get("calls")
        counts["right"] += bool(record.get("right"))
        counts["right_in_text"] += bool(record.get("right_in_text"))
    names = ("calls", "unread", "violations", "cut", "refused", "without_call", "right")
    return {
        "items": len(records),
        **{name: counts[name] for name in (*names, "right_in_text")},
        "share_right": round(counts["right"] / max(1, len(records)), 4),
        "share_without_call": round(counts["without_call"] / max(1, len(records)), 4),
    }


async def measure(
    asker: Asker, items: dict[str, list[Item]], save: Callable[[dict[str, Any]], None]
) -> None:
    """Every category and arm, `tools` and `required` in turn so that they share prompts."""
    await asker.find_model()
    result: dict[str, Any] = {}
    for category, own in items.items():
        asked = [(item, arm) for item in own for arm in ARMS if use(arm, item)]
        records = await asyncio.gather(*(asker.ask(item, arm) for item, arm in asked))
        by_arm: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
        for (_, arm), record in zip(asked, records, strict=True):
            by_arm[arm].append(record)
        result[category] = {
            arm: {**summary(own), "records": own} for arm, own in by_arm.items() if own
        }
        print(table({category: result[category]}, head=category == next(iter(items))), flush=True)
        save(result)


def use(arm: str, item: Item) -> bool:
    """Where no function is of use, requiring a call tells nothing of rightness."""
    return arm != "required" or item.answer is not None


def table(result: dict[str, Any], head: bool = True) -> str:
    """Markdown, a row for each category and arm."""
    rows = [
        "| category | arm | items | calls | do not parse | violate schema | cut | refused "
        "| no call | right | right in text |",
        "| --- " * 11 + "|",
    ] * head
    for category, arms in result.items():
        for arm, own in arms.items():
            rows.append(
                f"| {category} | {arm} | {own['items']} | {own['calls']} | {own['unread']} "
                f"| {own['violations']} | {own['cut']} | {own['refused']} "
                f"| {100 * own['share_without_call']:.1f} % | {100 * own['share_right']:.1f} % "
                f"| {own['right_in_text']} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the data set")
    parser.add_argument("--model", default="qwen-coder-0.5b")
    parser.add_argument("--url", help="of a running server, without /v1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--categories", default=CATEGORIES)
    parser.add_argument("--limit", type=int, help="items of each category")
    parser.add_argument("--streams", type=int, default=8, help="requests at once")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    items = {
        category: load_items(options.folder, category, options.limit)
        for category in options.categories.split(",")
    }
    started_s = time.perf_counter()

    def save(result: dict[str, Any]) -> None:
        seconds = round(time.perf_counter() - started_s, 1)
        whole = {"model": options.model, "seconds": seconds, "categories": result}
        if options.json:
            options.json.write_text(json.dumps(whole, indent=1) + "\n")

    with ExitStack() as stack:
        url = options.url
        if url is None:
            _, url = stack.enter_context(served(options.model, f"--threads={options.threads}"))
        asyncio.run(measure(Asker(url, options.streams), items, save))


if __name__ == "__main__":
    main()
