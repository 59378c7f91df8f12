"""Structured output: how many schemas can be honoured, whether what they make is valid, what it
costs.

    python bench/structured.py --schemas sample.jsonl.gz --model starter --json out.json
    python bench/structured.py --model qwen-coder-1.5b --streams 8      # speed alone

A schema file has a JSON object a line with `schema` in it (jsonschemabench's sample does).
Generations are judged by the `jsonschema` package. Speed: each round decodes free and constrained
in turns, tokens as many and prompts as long, and a ratio is the median of the rounds' ratios to the
free arm of the same round; over 1 is faster than free. Strings are as long as the model makes them,
one of at least 100,000 characters is counted at each token, and records have small masks.
"""

import argparse
import gzip
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema

from firefront.backends.cpu.executor import load
from firefront.core.chat import Constraint
from firefront.core.clock import SystemClock
from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError, RequestError
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.engine.grammar import Grammars, Guide
from firefront.text.constraint_grammar import constraint_rules
from firefront.text.rules import grammar_source
from firefront.text.schema_check import check
from firefront.text.tokenizer import load_tokenizer
from firefront.weights.fetch import resolve

MAX_SHOWN_CHARS = 1500  # of a schema in its prompt
STORY = {
    "type": "object",
    "properties": {"story": {"type": "string", "minLength": 100_000}},
    "required": ["story"],
    "additionalProperties": False,
}
PARAGRAPHS = {"type": "array", "items": {"type": "string"}, "minItems": 1000}
RECORDS = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green", "blue"]},
            "is_open": {"type": "boolean"},
            "size": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["colour", "is_open", "size"],
        "additionalProperties": False,
    },
}
ASK = "Write a long story about a lighthouse keeper, as JSON."


def grammar_of(schema: Any) -> str:
    rules = constraint_rules(Constraint(kind="json_schema", value=schema, param="schema"))
    return grammar_source(rules.expression, [rules])


def milliseconds(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(1e3 * s for s in seconds)
    at = {"p50": 0.5, "p99": 0.99}
    found = {name: round(ordered[int(q * (len(ordered) - 1))], 4) for name, q in at.items()}
    return {**found, "max": round(ordered[-1], 4), "num": len(ordered)}


class Masks:
    """Times of every mask while it is `on`."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        fill = Guide._fill

        def timed(guide: Guide, row: int) -> None:
            started_s = time.perf_counter()
            fill(guide, row)
            self.seconds.append(time.perf_counter() - started_s)

        self._fill, self._timed = fill, timed

    def __enter__(self) -> "Masks":
        Guide._fill = self._timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        Guide._fill = self._fill  # type: ignore[method-assign]


def coverage(engine: Engine, grammars: Grammars, tokenizer, options) -> dict[str, Any]:
    """Compile every schema, generate for those that do, judge what is finished."""
    opener = gzip.open if options.schemas.suffix == ".gz" else open
    with opener(options.schemas, "rt") as lines:
        schemas = [json.loads(line)["schema"] for line in lines][: options.limit]
    check_s, compile_s, reasons = [], [], Counter()
    submits: list[tuple[Any, Submit]] = []
    for number, schema in enumerate(schemas):
        started_s = time.perf_counter()
        try:
            source = grammar_of(schema)
        except RequestError:
            problem = check(schema).problems[0]
            last = problem.pointer.rpartition("/")[2]
            reasons[f"{last}: {problem.message}"[:60]] += 1
            continue
        check_s.append(time.perf_counter() - started_s)
        started_s = time.perf_counter()
        try:
            grammars.guide(b"", source)
        except FirefrontError as error:
            reasons[error.message[:60]] += 1
            continue
        compile_s.append(time.perf_counter() - started_s)
        shown = json.dumps(schema)[:MAX_SHOWN_CHARS]
        ask = f"Give an example of JSON that matches this JSON Schema:\n{shown}"
        sampling = SamplingParams(
            temperature=options.temperature, seed=number, max_tokens=options.tokens
        )
        ids = tokenizer.encode_chat([{"role": "user", "content": ask}])
        submits.append(
            (schema, Submit(request_id=str(number), generation=0, token_ids=ids,
                            sampling=sampling, grammar=source))
        )  # fmt: skip
    with Masks() as masks:
        texts, ends = run_all(engine, [submit for _, submit in submits])
    finished = valid = 0
    wrong: list[dict[str, str]] = []
    for schema, submit in submits:
        if ends[submit.request_id] != "stop":
            continue
        finished += 1
        if (why := invalid(schema, texts[submit.request_id])) is None:
            valid += 1
        else:
            wrong.append({"number": submit.request_id, "why": why[:300]})
    compiled = len(submits)
    return {
        "schemas": len(schemas),
        "compiled": compiled,
        "share_compiled": round(compiled / len(schemas), 4),
        "ends": Counter(ends.values()),
        "finished": finished,
        "share_valid": round(valid / max(1, finished), 4),
        "wrong": wrong,
        "check_ms": milliseconds(check_s),
        "compile_ms": milliseconds(compile_s),
        "mask_ms": milliseconds(masks.seconds),
        "refused_for": dict(reasons.most_common(20)),
    }


def run_all(engine: Engine, submits: list[Submit]) -> tuple[dict[str, str], dict[str, str]]:
    texts = {submit.request_id: "" for submit in submits}
    ends: dict[str, str] = {}
    for submit in submits:
        engine.submit(submit)
    while engine.has_work:
        for delta in engine.step():
            texts[delta.request_id] += delta.text
            if delta.finish is not None:
                ends[delta.request_id] = delta.error or delta.finish
    return texts, ends


def invalid(schema: Any, text: str) -> str | None:
    """Why a text is not valid; None if it is."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"not JSON: {error}: {text[:100]}"
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    for error in validator(schema).iter_errors(value):
        return f"{error.json_path}: {error.message}"
    return None


def decode_s(engine: Engine, prompt: list[int], grammar: str | None, options) -> float:
    """Seconds from the last stream's first token to the end, for `tokens` tokens a stream."""
    running = {}
    for number in range(options.streams):
        name = f"{time.perf_counter_ns()}-{number}"
        sampling = SamplingParams(
            temperature=0.0, max_tokens=options.tokens, ignore_eos=True, seed=number
        )
        engine.submit(
            Submit(request_id=name, generation=0, token_ids=prompt, sampling=sampling,
                   grammar=grammar)
        )  # fmt: skip
        running[name] = 0
    started_s = 0.0
    while engine.has_work:
        for delta in engine.step():
            assert delta.error is None, delta.error
            running[delta.request_id] += len(delta.token_ids)
        if not started_s and all(running.values()):
            started_s = time.perf_counter()
    assert set(running.values()) == {options.tokens}, running
    return time.perf_counter() - started_s


def speed(engine: Engine, tokenizer, options) -> dict[str, Any]:
    """Free and constrained decoding in turns."""
    prompt = tokenizer.encode_chat([{"role": "user", "content": ASK}])
    arms = {
        "free": None,
        "strings": grammar_of(PARAGRAPHS),
        "one_counted_string": grammar_of(STORY),
        "small_masks": grammar_of(RECORDS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    masks = Masks()
    for number in range(options.rounds + 1):  # the first warms up
        names = list(arms) if number % 2 else list(reversed(arms))
        for name in names:
            taken_s = decode_s(engine, prompt, arms[name], options)
            if number:
                seconds[name].append(taken_s)
    with masks:
        decode_s(engine, prompt, arms["strings"], options)
    per_token = options.streams * (options.tokens - 1)
    return {
        "streams": options.streams,
        "tokens": options.tokens,
        "mask_ms_in_strings": milliseconds(masks.seconds),
        "arms": {
            name: {
                "tok_s": round(per_token / statistics.median(own), 1),
                "ratio": round(
                    statistics.median(
                        f / s for f, s in zip(seconds["free"], own, strict=True)
                    ), 4,
                ),
                "ratios": [
                    round(f / s, 4) for f, s in zip(seconds["free"], own, strict=True)
                ],
            }
            for name, own in seconds.items()
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--schemas", type=Path, help="file of schemas; without: speed alone")
    parser.add_argument("--limit", type=int, help="of schemas")
    parser.add_argument("--tokens", type=int, default=256, help="most of a generation")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--streams", type=int, default=1, help="at once, for speed")
    parser.add_argument("--rounds", type=int, default=5, help="of speed; 0: none")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    path = resolve(options.model)
    tokenizer = load_tokenizer(path)
    executor = load(path, Deployment(model=options.model, threads=options.threads, context=4096))
    grammars = Grammars(tokenizer, executor.vocab_size)
    config = EngineConfig(max_num_seqs=16)
    engine = Engine(executor, tokenizer, config, SystemClock(), grammars=grammars)
    started_s = time.perf_counter()
    grammars.guide(b"", grammar_of({"type": "null"}))
    result: dict[str, Any] = {
        "model": options.model,
        "threads": executor.num_threads,
        "vocabulary_ms": round(1e3 * (time.perf_counter() - started_s), 1),
    }
    if options.schemas is not None:
        result["coverage"] = coverage(engine, grammars, tokenizer, options)
    if options.rounds:
        result["speed"] = speed(engine, tokenizer, options)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
