"""Grammars tried out in a process that may be killed: bounded in time, memory, queue and cache."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from firefront.core.chat import Constraint
from firefront.core.errors import GrammarError, OverloadedError, RequestError
from firefront.gateway import vetting as module
from firefront.gateway.vet_worker import Verdict
from firefront.gateway.vetting import Vetting
from firefront.text.answer_format import AnswerFormat
from firefront.text.grammar import answer_grammar
from tests.grammar_words import WORDS

MODEL = ("tiny", WORDS)


def run(test: Callable[[Vetting], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        vetting = Vetting(**options)
        try:
            await asyncio.wait_for(test(vetting), 60)
        finally:
            await vetting.close()

    asyncio.run(main())


def grammar(kind: Any, value: Any = None) -> str:
    constraint = Constraint(kind=kind, value=value, param="field")
    source = answer_grammar(AnswerFormat(), constraint=constraint)
    assert source is not None
    return source


def test_good_and_bad_grammars_with_and_without_a_vocabulary() -> None:
    async def test(vetting: Vetting) -> None:
        for model in (None, MODEL):
            verdict = await vetting.verdict("a", grammar("json_object"), model)
            assert verdict.message == "" and verdict.compile_ms > 0 < verdict.first_mask_ms
            await vetting.check("a", grammar("regex", "[ab]+"), "guided_regex", model)
            with pytest.raises(GrammarError, match="^guided_regex: ") as caught:
                await vetting.check("a", grammar("regex", "a(?=b)"), "guided_regex", model)
            assert caught.value.param == "guided_regex" and caught.value.status == 400
            bad = {"properties": {"a": {"type": "string", "pattern": "("}}}
            with pytest.raises(RequestError, match="at /properties/a: ") as found:
                await vetting.check("a", grammar("json_schema", bad), "schema", model)
            assert (found.value.param, found.value.code) == ("schema", "invalid_json_schema")
        control = f"start: <[{WORDS.control_id}]> /[a-z]+/"
        await vetting.check("a", control, "grammar", MODEL)
        assert vetting.num_killed == 0

    run(test)


def test_verdicts_are_kept_for_each_account(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(vetting: Vetting) -> None:
        tried: list[str] = []
        ask = Vetting._ask

        async def counted(self: Vetting, job: Any, limit_s: float) -> Verdict:
            tried.append(type(job).__name__)
            return await ask(self, job, limit_s)

        monkeypatch.setattr(Vetting, "_ask", counted)
        source = grammar("regex", "a+")
        await asyncio.gather(*(vetting.verdict("a", source) for _ in range(6)))
        assert tried == ["Grammar"]
        await vetting.verdict("b", source)
        await vetting.verdict("a", source, MODEL)
        await vetting.verdict("a", source, MODEL)
        assert tried == ["Grammar", "Grammar", "Vocabulary", "Grammar"]
        monkeypatch.setattr(module, "MAX_KEPT_BYTES", 1500)
        for i in range(30):
            await vetting.verdict("a", grammar("choice", [f"text {i}"]))
            assert vetting._verdicts._bytes["a"] <= 1500
        assert await vetting.verdict("b", source) and len(tried) == 34  # untouched by the flood
        await vetting.verdict("a", source)
        assert len(tried) == 35

    run(test)


def test_accounts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 3)
    kept = module._Verdicts()
    for i in range(10):
        kept.put(f"account {i}", b"key", Verdict())
    assert list(kept._kept) == list(kept._bytes) == ["account 7", "account 8", "account 9"]


SLOW = "import sys,time; sys.stdout.buffer.write({!r}); sys.stdout.flush(); time.sleep(100)"
DIES = "import sys; sys.stdout.buffer.write({!r}); sys.stdout.flush(); sys.stdin.buffer.read(4)"


def fake(script: str) -> tuple[str, ...]:
    import sys

    from firefront.gateway.vet_worker import frame

    return (sys.executable, "-c", script.format(frame(Verdict())))


def test_what_takes_too_long_is_killed_and_remembered() -> None:
    async def test(vetting: Vetting) -> None:
        for name in ("one", "two"):
            started_s = time.monotonic()
            with pytest.raises(GrammarError, match="more than 0.2 s"):
                await vetting.check("a", name, "grammar")
            assert time.monotonic() - started_s > 0.19
        assert vetting.num_killed == 2
        with pytest.raises(GrammarError):
            await vetting.check("a", "one", "grammar")
        assert vetting.num_killed == 2

    run(test, command=fake(SLOW), limit_s=0.2)


def test_a_process_that_dies_is_started_again() -> None:
    async def test(vetting: Vetting) -> None:
        for name in ("one", "two"):
            with pytest.raises(GrammarError, match="memory"):
                await vetting.check("a", name, "grammar")

    run(test, command=fake(DIES))


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    monkeypatch.setattr(module, "MAX_WAITING_EACH", 3)

    async def test(vetting: Vetting) -> None:
        sent = [("a", i) for i in range(5)] + [("b", i) for i in range(5)]
        tries = await asyncio.gather(
            *(vetting.verdict(account, f"{account} {i}") for account, i in sent),
            return_exceptions=True,
        )
        refused = [isinstance(t, OverloadedError) for t in tries]
        assert refused == [False] * 3 + [True] * 2 + [False] * 2 + [True] * 3
        assert not vetting._waiting and not vetting._turns

    run(test, command=fake(SLOW), limit_s=0.1)


def test_an_account_with_many_holds_up_no_other() -> None:
    async def test(vetting: Vetting) -> None:
        ended: list[str] = []

        async def one(account: str, source: str) -> None:
            await vetting.verdict(account, source)
            ended.append(source)

        sent = [("a", f"a{i}") for i in range(6)] + [("b", "b0")]
        await asyncio.gather(*(one(account, source) for account, source in sent))
        assert ended.index("b0") <= 2 and sorted(ended) == [source for _, source in sent]

    run(test, command=fake(SLOW), limit_s=0.05)


def test_a_caller_that_goes_away_leaves_no_answer_behind() -> None:
    async def test(vetting: Vetting) -> None:
        await vetting.verdict("a", grammar("json_object"))
        task = asyncio.create_task(vetting.verdict("a", grammar("choice", ["x"] * 1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bad = await vetting.verdict("a", grammar("regex", "("))
        good = await vetting.verdict("a", grammar("regex", "b"))
        assert bad.message and not good.message

    run(test)


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"oneOf": [schema, {"type": "array", "items": schema}, {"type": "null"}]}
    return schema


HOSTILE: dict[str, tuple[Any, Any]] = {
    **{f"oneOf {depth}": ("json_schema", nested(depth)) for depth in (1, 4, 8, 12)},
    "backtracking": ("regex", "(a+)+$"),
    "alternation": ("regex", "(a|aa|aaa|aaaa)*b" * 40),
    "counted": ("regex", "((a{0,99}){0,99}){0,99}"),
    "unicode": ("regex", r"(\p{L}{1,200}\s?){1,200}"),
    "choices": ("choice", [f"{i:07}" for i in range(10_000)]),
    "min items": ("json_schema", {"type": "array", "minItems": 10**6}),
    "max items": ("json_schema", {"type": "array", "items": {"type": "string"}, "maxItems": 10**7}),
    "lengths": ("json_schema", {"type": "string", "minLength": 10**9}),
    "properties": ("json_schema", {"properties": {f"p{i}": {} for i in range(3000)}}),
    "any of": ("json_schema", {"anyOf": [{"pattern": f"^(a|b{i})*c{i}"} for i in range(500)]}),
    "all of": (
        "json_schema", {"allOf": [{"type": "string", "pattern": f"x.*{i}"} for i in range(60)]}
    ),
    "left recursion": ("grammar", "start: start start start | \"a\" | start"),
    "empty loops": ("grammar", "start: a*\na: b*\nb: a* | \"\""),
    "deep": ("grammar", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000),
    "deep regex": ("regex", "(" * 20_000 + "a" + ")" * 20_000),
    "many rules": (
        "grammar",
        "".join(["start: r0\n", *(f'r{i}: r{i + 1}? "a"\n' for i in range(3000)), 'r3000: "b"']),
    ),
    "nested json": ("grammar", "start: %json " + '{"items": ' * 5000 + "{}" + "}" * 5000),
    "negation": ("grammar", "start: T\nT: ~/(.*a.{18}b.*)/ & /(?s:.*)c/"),
    "empty": ("grammar", " "),
    "nul": ("regex", "\x00[\x00-\x10]+"),
}  # fmt: skip


@pytest.fixture(scope="module")
def judged() -> dict[str, tuple[float, str]]:
    """What became of each: seconds, and what it was refused for."""
    found: dict[str, tuple[float, str]] = {}

    async def test(vetting: Vetting) -> None:
        for name, (kind, value) in HOSTILE.items():
            started_s = time.monotonic()
            try:
                await vetting.check("a", grammar(kind, value), "field", MODEL)
                message = ""
            except RequestError as error:
                message = error.message
            found[name] = (time.monotonic() - started_s, message)
            # Whatever it was, the next one is looked at.
            await vetting.check("b", grammar("choice", [name]), "field", MODEL)

    async def main() -> None:
        vetting = Vetting()
        try:
            await test(vetting)
        finally:
            await vetting.close()

    asyncio.run(main())
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_are_done_with(name: str, judged: dict[str, tuple[float, str]]) -> None:
    seconds, message = judged[name]
    assert seconds < 30
    assert not message or message.startswith("field: ")
    assert len(message) < 700 and "\n" not in message


def test_those_that_must_be_refused_are(judged: dict[str, tuple[float, str]]) -> None:
    for name in ("oneOf 4", "oneOf 12", "deep", "deep regex", "empty"):
        assert judged[name][1], name
    for name in ("oneOf 1", "backtracking", "choices", "max items"):
        assert not judged[name][1], judged[name]
