"""Constrained decoding in the engine: whatever the model wants, what is finished obeys."""

import json
import random
import re
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

from firefront.core.chat import Constraint
from firefront.core.errors import GrammarError, RequestError
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.engine import grammar
from firefront.engine.grammar import Grammars, Guide
from tests.engine import adversary
from tests.engine.adversary import Adversary, grammar_of, steered
from tests.engine.drafting import ScriptedDrafts
from tests.engine.fake_executor import expected
from tests.engine.harness import Harness, Output, solo
from tests.grammar_words import WORDS, TinyWords

LONG = SamplingParams(temperature=1.0, seed=1, max_tokens=2000)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["the", "and", "日本"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMAS: list[Any] = [
    PERSON,
    {"type": "string", "pattern": "^[a-z]{2,5}-[0-9]{3}$"},
    {"type": "array", "items": {"type": "number", "minimum": -2.5, "maximum": 10}, "maxItems": 4},
    {"anyOf": [{"type": "null"}, {"const": {"a": [1, "é"]}}, {"type": "string", "maxLength": 3}]},
    {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "boolean"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        },
    },
    {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, kind: {"type": "integer", "multipleOf": 5}},
                "required": ["kind", kind],
                "additionalProperties": False,
            }
            for kind in ("cat", "dog")
        ]
    },
    {"type": "string", "format": "date"},
]


def schema_grammar(schema: Any) -> str:
    return grammar_of(Constraint(kind="json_schema", value=schema))


def text_of(output: Output) -> str:
    assert output.text == WORDS.decode(output.token_ids)
    return output.text


def with_fields(params: SamplingParams, **fields: Any) -> SamplingParams:
    return msgspec.structs.replace(params, **fields)


@pytest.mark.parametrize("wish", [adversary.by_chance, adversary.spaces, adversary.ends])
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:40])
def test_what_is_finished_matches(schema: Any, wish: adversary.Wish) -> None:
    harness = steered(wish)
    for seed in range(12):
        sampling = with_fields(LONG, seed=seed)
        harness.submit(str(seed), [1, 2, 3], sampling, grammar=schema_grammar(schema))
    for output in harness.run().values():
        assert output.finish == "stop", output.text[:200]
        value = json.loads(text_of(output))
        jsonschema.validate(value, schema)
        assert output.last.usage.num_output == len(output.token_ids)
        assert json.dumps(value, ensure_ascii=False) == output.text or "." in output.text
    assert harness.executor.num_masked < sum(len(o.token_ids) for o in harness.outputs.values())


@pytest.mark.parametrize("wish", [adversary.spaces, adversary.openers])
def test_nothing_goes_on_for_ever(wish: adversary.Wish) -> None:
    harness = steered(wish)
    harness.submit("any", [1], with_fields(LONG, max_tokens=300), grammar=grammar_of(
        Constraint(kind="json_object")))  # fmt: skip
    harness.submit("person", [1], LONG, grammar=schema_grammar(PERSON))
    outputs = harness.run()
    assert outputs["person"].finish == "stop"
    assert outputs["any"].finish in ("stop", "length")
    outside = re.sub(r'"(\\.|[^"\\])*"?', '""', outputs["any"].text)
    assert not re.search(r"\s\s", outside), "white space outside of strings"


def test_regex_choice_and_grammars() -> None:
    harness = steered()
    texts = ["the", "the end", "null", "日本"]
    constraints = {
        "regex": Constraint(kind="regex", value=r"^\d{3}-[a-c]+$"),
        "choice": Constraint(kind="choice", value=texts),
        "lark": Constraint(kind="grammar", value='start: "a" b\nb: "<" /[0-9]{2}/ ">"'),
        "gbnf": Constraint(kind="grammar", value='root ::= "x" sub{2}\nsub ::= [yz] | "日"'),
    }
    for name, constraint in constraints.items():
        harness.submit(name, [1], LONG, grammar=grammar_of(constraint))
    outputs = harness.run()
    assert re.fullmatch(r"[0-9]{3}-[a-c]+", text_of(outputs["regex"]))
    assert text_of(outputs["choice"]) in texts
    assert re.fullmatch(r"a<[0-9]{2}>", text_of(outputs["lark"]))
    assert re.fullmatch(r"x[yz日]{2}", text_of(outputs["gbnf"]))
    assert {output.finish for output in outputs.values()} == {"stop"}


def test_forced_tokens_are_not_sampled_and_change_nothing() -> None:
    fixed = {"const": {"name": "the", "age": 123, "and": ["true", "http://"]}}
    grammar = schema_grammar(fixed)
    harness = steered()
    harness.submit("quick", [1, 2], LONG, grammar=grammar)
    harness.submit("slow", [1, 2], with_fields(LONG, logprobs=2), grammar=grammar)
    outputs = harness.run()
    quick, slow = outputs["quick"], outputs["slow"]
    assert text_of(quick) == json.dumps(fixed["const"])
    assert quick.token_ids == slow.token_ids and quick.text == slow.text
    assert len(slow.logprobs) == len(slow.token_ids)
    assert [entry.token_id for entry in slow.logprobs] == slow.token_ids
    single = steered()
    single.submit("quick", [1, 2], LONG, grammar=grammar)
    single.run()
    assert single.engine.stats().num_steps <= 3 < len(quick.token_ids)


@pytest.mark.parametrize("seed", range(4))
def test_with_log_probabilities_the_same_tokens(seed: int) -> None:
    harness = steered()
    for schema_idx, schema in enumerate(SCHEMAS):
        for logprobs in (None, 0):
            sampling = with_fields(LONG, seed=seed, logprobs=logprobs)
            name = f"{schema_idx} {logprobs}"
            harness.submit(name, [1, 2], sampling, grammar=schema_grammar(schema))
    outputs = harness.run()
    for schema_idx in range(len(SCHEMAS)):
        plain, scored = outputs[f"{schema_idx} None"], outputs[f"{schema_idx} 0"]
        assert plain.token_ids == scored.token_ids and plain.text == scored.text


def test_steered_and_free_neighbours_are_as_alone() -> None:
    free = SamplingParams(temperature=1.0, seed=3, max_tokens=40, ignore_eos=True)
    harness = steered(token_budget=24, max_num_seqs=6)
    for i in range(6):
        harness.submit(f"free{i}", [i + 1] * (5 * i + 1), free)
        schema = SCHEMAS[i]
        harness.submit(
            f"held{i}", [i + 1] * 7, with_fields(LONG, seed=i), grammar=schema_grammar(schema)
        )
    outputs = harness.run()
    for i in range(6):
        want = expected([i + 1] * (5 * i + 1), free, WORDS.vocab_size)
        assert outputs[f"free{i}"].token_ids == want
        alone = steered()
        grammar = schema_grammar(SCHEMAS[i])
        alone.submit("a", [i + 1] * 7, with_fields(LONG, seed=i), grammar=grammar)
        assert alone.run()["a"].token_ids == outputs[f"held{i}"].token_ids


LETTERS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "kind": {"enum": ["the", "and"]},
            "short": {"type": "string", "maxLength": 9},
        },
        "required": ["text", "kind", "short"],
        "additionalProperties": False,
    },
    "minItems": 2,
    "maxItems": 3,
}


@pytest.mark.parametrize("steady", [1, 2, 5, 12])
@pytest.mark.parametrize("stop", [(), ("th",), ("e",)])
def test_bursts_under_a_mask_that_stays_give_what_steps_give(
    monkeypatch: pytest.MonkeyPatch, steady: int, stop: tuple[str, ...]
) -> None:
    """Long texts run in bursts; a token that changes what is allowed is the last that counts."""
    monkeypatch.setattr(grammar, "STEADY_TOKENS", steady)
    free = SamplingParams(temperature=1.0, seed=3, max_tokens=300, ignore_eos=True)

    def run(max_burst: int) -> tuple[Harness, dict[str, Output]]:
        harness = steered(max_burst=max_burst, hold_s=100.0)
        harness.submit("free", [1, 2, 3], free)
        for i in range(4):
            sampling = with_fields(LONG, seed=i, max_tokens=300, stop=stop)
            source = schema_grammar(LETTERS if i else {"type": "string", "minLength": 250})
            harness.submit(str(i), [i + 1] * 8, sampling, grammar=source)
        return harness, harness.run()

    single, steps = run(1)
    together, bursts = run(16)
    assert single.executor.bursts == [] and sum(together.executor.bursts) > 0
    for name, output in steps.items():
        other = bursts[name]
        assert other.token_ids == output.token_ids and other.text == output.text
        assert other.finish == output.finish
    together.engine.check_invariants()


def test_preempted_in_a_small_pool_and_still_right() -> None:
    harness = steered(
        executor=Adversary(num_blocks=9, max_len=144), token_budget=32, max_num_seqs=6
    )
    for i in range(6):
        sampling = with_fields(LONG, seed=i, max_tokens=100)
        harness.submit(str(i), [i + 1] * 8, sampling, grammar=schema_grammar(PERSON))
    outputs = harness.run()
    assert harness.engine.stats().num_preemptions > 0
    for i, output in enumerate(outputs.values()):
        alone = steered()
        alone.submit("a", [i + 1] * 8, with_fields(LONG, seed=i), grammar=schema_grammar(PERSON))
        whole = alone.run()["a"]
        assert output.token_ids == whole.token_ids[: len(output.token_ids)]
        assert output.finish == "length" or output.text == whole.text


def test_aborts_and_many_of_one_grammar() -> None:
    harness = steered()
    grammar = schema_grammar(PERSON)
    for i in range(8):
        harness.submit(str(i), [1, 2], with_fields(LONG, seed=i % 4), grammar=grammar)
    for _ in range(3):
        harness.step()
    harness.engine.abort("0", 1)
    harness.engine.abort("5", 1)
    outputs = harness.run()
    assert outputs["0"].finish == outputs["5"].finish == "abort"
    for a, b in (("2", "6"), ("3", "7")):
        assert outputs[a].text == outputs[b].text
        jsonschema.validate(json.loads(outputs[a].text), PERSON)
    assert outputs["2"].text != outputs["3"].text


@pytest.mark.parametrize("limit", range(1, 14))
def test_max_tokens_cuts_forced_tokens_too(limit: int) -> None:
    fixed = {"const": {"name": "the", "age": 123}}
    harness = steered()
    harness.submit("a", [1], with_fields(LONG, max_tokens=limit), grammar=schema_grammar(fixed))
    harness.submit("whole", [1], LONG, grammar=schema_grammar(fixed))
    outputs = harness.run()
    whole = outputs["whole"].token_ids
    assert outputs["a"].token_ids == whole[:limit]
    done = limit >= len(whole)
    assert outputs["a"].finish == ("stop" if done else "length")


def test_stop_strings_within_forced_text() -> None:
    fixed = {"const": {"name": "the", "age": 123}}
    harness = steered()
    harness.submit("a", [1], with_fields(LONG, stop=('"age',)), grammar=schema_grammar(fixed))
    harness.submit(
        "b", [1], with_fields(LONG, stop=('"age',), include_stop_str_in_output=True),
        grammar=schema_grammar(fixed),
    )  # fmt: skip
    outputs = harness.run()
    assert outputs["a"].text == '{"name": "the", '
    assert outputs["b"].text == '{"name": "the", "age'
    assert outputs["a"].last.stop_reason == '"age' and outputs["a"].finish == "stop"


def test_min_tokens_and_ignore_eos_go_on_where_the_grammar_does() -> None:
    free = grammar_of(Constraint(kind="regex", value="[ab]*"))
    closed = grammar_of(Constraint(kind="regex", value="[ab]{0,4}"))
    harness = steered(adversary.ends)
    harness.submit("free", [1], with_fields(LONG, min_tokens=9), grammar=free)
    harness.submit("closed", [1], with_fields(LONG, min_tokens=9), grammar=closed)
    harness.submit("on", [1], with_fields(LONG, ignore_eos=True, max_tokens=30), grammar=free)
    harness.submit("on closed", [1], with_fields(LONG, ignore_eos=True), grammar=closed)
    harness.submit("ends", [1], LONG, grammar=free)
    outputs = harness.run()
    assert (outputs["ends"].text, outputs["ends"].finish) == ("", "stop")
    assert outputs["free"].last.usage.num_output == 10 and outputs["free"].finish == "stop"
    assert len(outputs["free"].text) == 9
    assert outputs["closed"].finish == "stop" and len(outputs["closed"].text) == 4
    assert outputs["on"].finish == "length" and len(outputs["on"].text) == 30
    assert outputs["on closed"].finish == "stop" and len(outputs["on closed"].text) == 4
    for output in outputs.values():
        assert re.fullmatch("[ab]*", output.text)


def test_allowed_token_ids_meet_the_grammar() -> None:
    grammar = grammar_of(Constraint(kind="regex", value="[a-f]{3}[0-9]?"))
    allowed = tuple(b"acz9")
    harness = steered()
    harness.submit("both", [1], with_fields(LONG, allowed_token_ids=allowed), grammar=grammar)
    harness.submit("none", [1], with_fields(LONG, allowed_token_ids=(122,)), grammar=grammar)
    harness.submit("free", [1], LONG, grammar=grammar)
    outputs = harness.run()
    assert re.fullmatch("[ac]{3}9?", outputs["both"].text) and outputs["both"].finish == "stop"
    assert outputs["none"].finish == "error"
    assert outputs["none"].last.error.startswith("allowed_token_ids: ")
    assert outputs["none"].last.error_code == "invalid_grammar"
    assert outputs["free"].finish == "stop"


def test_stop_token_ids_end_it_where_the_grammar_allows_them() -> None:
    grammar = grammar_of(Constraint(kind="regex", value="a*b*"))
    harness = steered(lambda history, allowed: 98 if len(history) > 5 and 98 in allowed else 97)
    harness.submit("s", [1], with_fields(LONG, stop_token_ids=(98,)), grammar=grammar)
    output = harness.run()["s"]
    assert (output.text, output.finish, output.last.stop_reason) == ("aaaaa", "stop", 98)


def test_an_end_of_text_is_no_text_and_either_will_do() -> None:
    grammar = grammar_of(Constraint(kind="regex", value="(.|\n)*"))
    for end in sorted(WORDS.eos_ids):
        harness = steered(lambda history, allowed, end=end: end if len(history) > 3 else None)
        harness.submit("r", [1], LONG, grammar=grammar)
        output = harness.run()["r"]
        assert output.finish == "stop" and output.token_ids[-1] == end
        assert "<|" not in output.text
        guide = Grammars(WORDS, WORDS.vocab_size).guide(b"", grammar)
        guide.look()
        assert not guide.masks[0, WORDS.control_id >> 5] >> (WORDS.control_id & 31) & 1


def test_a_matcher_that_fails_ends_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = steered()
    for i in range(5):
        harness.submit(str(i), [1], with_fields(LONG, seed=i), grammar=schema_grammar(PERSON))
    suspect = harness.engine._sequences["2"].guide
    real, calls = Guide.look, []

    def look(guide: Guide, drafts: Any = ()) -> int:
        calls.append(guide)
        if guide is suspect and calls.count(suspect) > 2:
            raise GrammarError("grammar: cannot be followed any further")
        return real(guide, drafts)

    monkeypatch.setattr(Guide, "look", look)
    outputs = harness.run()
    assert outputs["2"].finish == "error"
    assert outputs["2"].last.error == "grammar: cannot be followed any further"
    for name in "0134":
        jsonschema.validate(json.loads(outputs[name].text), PERSON)


def test_a_token_that_the_grammar_forbids_ends_its_request_alone() -> None:
    class Disobeys(Adversary):
        def choose(self, history: list[int], allowed: list[int], seed: int) -> int:
            return 0 if seed == 3 and len(history) > 6 else super().choose(history, allowed, seed)

    harness = steered(executor=Disobeys())
    for i in (1, 2, 3):
        harness.submit(str(i), [1], with_fields(LONG, seed=i), grammar=schema_grammar(PERSON))
    outputs = harness.run()
    assert [outputs[name].finish for name in "123"] == ["stop", "stop", "error"]
    assert outputs["3"].last.error_code == "invalid_grammar"


@pytest.mark.parametrize("skill", [0.0, 0.6, 1.0])
def test_drafts_change_no_token(skill: float) -> None:
    outputs, stats = [], []
    for drafted in (False, True):
        harness = steered(token_budget=200)
        if drafted:
            future = {name: output.token_ids for name, output in outputs[0].items()}

            def oracle(sequence: Any, count: int) -> list[int]:
                rest = future[sequence.request_id][sequence.num_output :]  # noqa: B023
                return (rest + [0] * count)[:count]

            harness.engine._speculator = ScriptedDrafts(
                oracle, WORDS.vocab_size, skill=skill, most=9
            )
        for i, schema in enumerate(SCHEMAS):
            for penalty in (0.0, 0.5):
                sampling = with_fields(LONG, seed=i, presence_penalty=penalty)
                name = f"{i} {penalty}"
                harness.submit(name, [1, 2], sampling, grammar=schema_grammar(schema))
        outputs.append(harness.run())
        stats.append(harness.engine.stats())
    for name, output in outputs[0].items():
        assert outputs[1][name].token_ids == output.token_ids, name
        assert outputs[1][name].text == output.text
    assert stats[1].drafted_tokens > 20
    if skill == 1.0:
        assert stats[1].accepted_tokens == stats[1].drafted_tokens
        assert stats[1].num_steps < stats[0].num_steps


def test_a_grammar_that_counts_tokens_gets_no_drafts() -> None:
    source = '%llguidance {}\nstart: body "."\nbody[max_tokens=5]: /[a-z]+/\n'
    harness = steered()
    harness.engine._speculator = ScriptedDrafts(lambda s, n: [97] * n, WORDS.vocab_size, most=5)
    harness.submit("r", [1], LONG, grammar=source)
    output = harness.run()["r"]
    assert re.fullmatch(r"[a-z]+\.", output.text) and output.finish == "stop"
    assert harness.engine.stats().drafted_tokens == 0


def test_grammars_that_do_not_compile_are_refused() -> None:
    harness = steered()
    for source in ("", "start: [", "%llguidance {}\nstart: nowhere", '{"grammars": []}', "{"):
        with pytest.raises(GrammarError):
            harness.submit("r", [1], LONG, grammar=source)
        with pytest.raises(GrammarError):
            harness.engine.check(
                msgspec.structs.replace(_submit(source), request_id="other")
            )
    assert not harness.engine.has_work
    with pytest.raises(RequestError, match="needs a tokenizer"):
        Harness().submit("r", [1], LONG, grammar="start: /a/")
    free = Harness()
    free.submit("r", [1])
    assert free.run()["r"].token_ids == solo([1]).token_ids


def _submit(source: str) -> Submit:
    return Submit(request_id="r", generation=1, token_ids=[1], sampling=LONG, grammar=source)


def test_padding_of_the_vocabulary_is_never_allowed() -> None:
    grammars = Grammars(WORDS, WORDS.vocab_size + 100)
    guide = grammars.guide(b"", grammar_of(Constraint(kind="regex", value="(.|\n)*")))
    guide.look()
    bits = np.unpackbits(guide.masks[0].view(np.uint8), bitorder="little")
    assert not bits[WORDS.vocab_size :].any()
    assert bits[:256].sum() > 150 and all(bits[i] for i in WORDS.eos_ids)


def test_what_no_token_can_say_is_an_error_and_no_end() -> None:
    class NoB(TinyWords):
        """There is no token with a b in it."""

        def token_bytes(self, token_id: int, /) -> bytes:
            data = super().token_bytes(token_id)
            return b"" if b"b" in data else data

    words = NoB()
    harness = Harness(
        Adversary(), tokenizer=words, grammars=Grammars(words, words.vocab_size),
        eos_ids=words.eos_ids,
    )  # fmt: skip
    for name, pattern in (("stuck", "[ac]{3}b"), ("fine", "[ab]{3}c")):
        grammar = grammar_of(Constraint(kind="regex", value=pattern))
        harness.submit(name, [1], LONG, grammar=grammar)
    outputs = harness.run()
    assert outputs["stuck"].finish == "error"
    assert outputs["stuck"].last.error_code == "invalid_grammar"
    assert (outputs["fine"].text, outputs["fine"].finish) == ("aaac", "stop")


def test_the_cache_is_each_accounts_own_and_bounded() -> None:
    grammars = Grammars(WORDS, WORDS.vocab_size, max_cached_bytes=20_000)
    source = schema_grammar(PERSON)
    one = grammars.guide(b"a", source)
    assert grammars.known(b"b", source) is None
    other = grammars.known(b"a", source)
    assert other is not None
    (opening,) = WORDS.encode_rest('{"')
    one.take(opening)
    other.look()
    assert other.masks[0, opening >> 5] >> (opening & 31) & 1, "copies share nothing"
    chance = random.Random(0)
    sources = [
        schema_grammar({"const": "".join(chance.choices("abc", k=500)), "title": str(i)})
        for i in range(200)
    ]
    for source in sources:
        grammars.guide(b"a", source)
        assert grammars._kept_bytes <= 20_000
        assert grammars._kept_bytes == sum(len(key[1]) for key in grammars._kept)
    assert grammars.known(b"a", sources[-1]) and grammars.known(b"a", sources[0]) is None
