"""Cleansing: each kind of fault is found where it was put, and what stays stays as it was."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from firefront.core.errors import RequestError, StorageFullError
from firefront.tuning.cleanse import cleanse, decide, finding_text, manifest
from firefront.tuning.facts import Facts, facts_of
from firefront.tuning.findings import MAX_PRIVATE, Finding, findings_of
from firefront.tuning.inspection import Inspection, _conflicts, inspect
from firefront.tuning.line_files import manifest_path
from firefront.tuning.rows import parse_row
from tests.tuning.chats import Row, chat, labelled, preference, read, write

BASE = labelled(["red", "blue"], 40)  # lines 1 to 40


def look(tmp_path: Path, rows: list[Row | bytes], valid: list[Row] | None = None) -> Inspection:
    other = None if valid is None else write(tmp_path / "valid.jsonl", valid)
    return inspect(write(tmp_path / "data.jsonl", rows), other)


def found(inspection: Inspection, kind: str) -> list[tuple[int, int | None]]:
    return [(f.line, f.other) for f in inspection.findings if f.kind == kind]


def question(row: Row) -> str:
    text: str = row["messages"][0]["content"]
    return text


def test_the_base_of_these_tests_is_clean(tmp_path: Path) -> None:
    inspection = look(tmp_path, [*BASE], labelled(["red"], 60)[45:])
    assert inspection.findings == [] and inspection.warnings == []
    assert inspection.answers == "labels" and inspection.labels == {"red": 20, "blue": 20}
    assert inspection.groups.tolist() == list(range(40))


def test_duplicates_are_the_same_but_for_ends_and_case(tmp_path: Path) -> None:
    first = question(BASE[0])
    rows = [
        *BASE,
        chat(f"  {first.upper()}\n", "RED "),
        chat(first, "red", system="Another task."),
        chat(first.replace(" ", "  ", 1), "red"),
        chat("Cafe\u0301 or tea, and what of the milk?", "red"),
        chat("Caf\u00e9 or tea, and what of the milk?", "red"),
    ]
    inspection = look(tmp_path, rows)
    assert found(inspection, "duplicate") == [(41, 1), (45, 44)]
    assert found(inspection, "near_duplicate") == [(43, 1)]
    assert inspection.num_repeated == 2
    assert inspection.groups[[40, 41, 42]].tolist() == [0, 0, 0]
    decision = decide(inspection)
    assert decision.dropped.keys() == {41, 45}
    assert {f.line for f in decision.flagged} == {43}
    assert decide(inspection, {"near_duplicate": "drop"}).dropped.keys() == {41, 43, 45}


def test_a_near_duplicate_of_what_goes_stays(tmp_path: Path) -> None:
    text = question(BASE[3])
    rows = [*BASE, chat(text + " x", "blue")]
    inspection = look(tmp_path, rows, [BASE[3]])
    assert found(inspection, "leak") == [(4, 1)] and found(inspection, "near_leak") == [(41, 1)]
    kept = decide(inspection, {"near_duplicate": "drop", "near_leak": "flag"})
    assert kept.dropped.keys() == {4}


def test_conflicting_labels_and_their_majority(tmp_path: Path) -> None:
    first, second = question(BASE[0]), question(BASE[1])
    rows = [*BASE, chat(first, "blue"), chat(first, "Red"), chat(second, "red")]
    inspection = look(tmp_path, rows)
    assert found(inspection, "conflict") == [(2, 43), (41, 1), (43, 2)]
    decision = decide(inspection)
    assert decision.dropped.keys() == {2, 41, 42, 43}
    assert decision.dropped[42].kind == "duplicate"


class Counted(list[Facts]):
    """Counts how often somebody looks."""

    num_looks = 0

    def __getitem__(self, i: Any) -> Any:
        self.num_looks += 1
        return super().__getitem__(i)


@pytest.mark.parametrize("rejected", [None, "blue"])
def test_many_answers_to_one_input_take_no_longer_each(rejected: str | None) -> None:
    colours = ["red"] * 500 + ["blue"] * 500
    rows = [
        chat("Which colour?", colour) if rejected is None
        else preference("Which colour?", colour, "red" if colour == "blue" else "blue")
        for colour in colours
    ]  # fmt: skip
    facts = Counted(facts_of(parse_row(row, line)) for line, row in enumerate(rows, start=1))
    found = list(_conflicts(facts, {b"": list(range(1000))}, "texts" if rejected else "labels"))
    assert [(f.line, f.other) for f in found[499:501]] == [(500, 501), (501, 1)]
    assert len(found) == 1000 and facts.num_looks < 20 * 1000


def test_free_texts_may_differ(tmp_path: Path) -> None:
    stories = [chat(question(row), "Once upon a time. " * 9 + str(i)) for i, row in enumerate(BASE)]
    inspection = look(tmp_path, [*stories, chat(question(BASE[0]), "Another story. " * 9)])
    assert inspection.answers == "texts" and inspection.num_repeated == 1
    assert not inspection.findings and not inspection.labels


def test_json_answers_are_compared_as_values(tmp_path: Path) -> None:
    rows = [chat(question(row), json.dumps({"a": i, "b": "x"})) for i, row in enumerate(BASE)]
    rows += [
        chat(question(BASE[0]), '{"b":"X",  "a": 0}'),
        chat(question(BASE[1]), '{"a": 7, "b": "x"}'),
    ]
    inspection = look(tmp_path, rows)
    assert inspection.answers == "structures"
    assert found(inspection, "duplicate") == [(41, 1)]
    assert found(inspection, "conflict") == [(2, 42), (42, 2)]


def test_calls_are_labels_by_their_names(tmp_path: Path) -> None:
    def calling(row: Row, name: str, arguments: str) -> Row:
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        last = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"messages": [row["messages"][0], last]}

    rows = [calling(row, f"f{i % 2}", f'{{"x": {i}}}') for i, row in enumerate(BASE)]
    rows += [calling(BASE[0], "f0", '{"x":0}'), calling(BASE[1], "f0", '{"x":1}')]
    inspection = look(tmp_path, rows)
    assert inspection.labels == {"f0": 22, "f1": 20}
    assert found(inspection, "duplicate") == [(41, 1)]
    assert found(inspection, "conflict") == [(2, 42), (42, 2)]


def test_preferences_that_contradict(tmp_path: Path) -> None:
    rows = [
        preference("Which way?", "Left.", "Right."),
        preference("Which way? ", "Left.", "Right."),
        preference("which way?", "Right.", "Left."),
        preference("Which way?", "Left.", "Straight on."),
    ]
    inspection = look(tmp_path, rows)
    assert found(inspection, "conflict") == [(1, 3), (2, 3), (3, 1)]
    assert found(inspection, "duplicate") == [(2, 1)]
    assert decide(inspection).dropped.keys() == {1, 2, 3}


def test_empty_and_cut_answers(tmp_path: Path) -> None:
    long = [chat(question(row), "This is a longer answer that ends. " * 5) for row in BASE]
    rows = [
        *long,
        chat("What now?", " \n"),
        chat("   ", "An answer."),
        chat("Which fields?", '{"a": 1, "b": {"c": 2}'),
        chat("Which code?", "Here:\n```python\nprint(1)"),
        chat("Tell more", "This is a longer answer that " * 6),
        chat("Which note?", "[laughs] no"),
    ]
    inspection = look(tmp_path, rows)
    assert found(inspection, "empty") == [(41, None), (42, None)]
    assert found(inspection, "truncated") == [(43, None), (44, None), (45, None)]
    assert decide(inspection).dropped.keys() == {41, 42}


def test_private_data_is_flagged_and_not_shown(tmp_path: Path) -> None:
    key, mail = "sk-proj-" + "aB3dE6gH9jK2mN5pQ8" * 2, "ann.smith@example.org"
    rows = [*BASE, chat(f"Use {key} please", "red"), chat(f"I am {mail}", "blue")]
    inspection = look(tmp_path, rows)
    assert found(inspection, "secret") == [(41, None)]
    assert found(inspection, "personal") == [(42, None)]
    decision = decide(inspection)
    assert not decision.dropped
    text = json.dumps(manifest(inspection, decision, {}))
    assert key not in text and mail not in text and "API key in messages[0].content" in text


def test_more_private_data_than_is_told_is_not_sought() -> None:
    row = parse_row(chat("ann@example.org " * 100_000, "red"), 1)  # in 4 MiB: a line may be so long
    assert [f.kind for f in findings_of(row)] == ["personal"] * MAX_PRIVATE


def test_what_only_the_whole_set_tells(tmp_path: Path) -> None:
    rows = labelled(["red"], 102)
    rows[5] = chat(question(rows[5]), "blue")
    rows = [{"messages": [{"role": "system", "content": "Be kind. " * 20}, *row["messages"]]}
            for row in rows]  # fmt: skip
    rows[0]["source"] = "x"
    inspection = look(tmp_path, [*rows])
    balance, system, ignored = inspection.warnings
    assert "'red' has 101 rows, 'blue' 1" in balance
    assert "180 characters stands in 102 of 102 rows" in system
    assert ignored == "fields that change nothing: 'source' (1)"
    assert "near_duplicate" not in {f.kind for f in inspection.findings}


def test_leaks_are_counted_by_input(tmp_path: Path) -> None:
    rows = [*BASE, chat(question(BASE[0]).upper(), "red")]
    valid = [BASE[0], BASE[0], chat(question(BASE[1]), "red"), chat("Something else", "red")]
    inspection = look(tmp_path, rows, valid)
    assert inspection.leaked == {"inputs": 2, "validation_rows": 3, "rows": 3}
    assert found(inspection, "leak") == [(1, 1), (2, 3), (41, 1)]
    assert decide(inspection).dropped[1].kind == "leak"


def test_output_and_manifest(tmp_path: Path) -> None:
    odd = b'{ "prompt":"A question that is odd","completion" : "red" ,"note":"\\u00e9"}  '
    rows = [BASE[0], b"", b"nonsense", odd + b"\r", BASE[0], b"\xff", *BASE[1:]]
    path, out = write(tmp_path / "data.jsonl", rows), tmp_path / "clean.jsonl"
    inspection = inspect(path)
    decision = decide(inspection)
    record = cleanse(path, out, inspection, decision, {"seed": 0})
    lines = out.read_bytes().splitlines()
    assert lines[1] == odd.strip() and len(lines) == 41 and read(out)[0] == BASE[0]
    assert json.loads(manifest_path(out).read_bytes()) == record
    assert record["rows"] == {"read": 44, "kept": 41, "dropped": 3, "flagged": 0}
    assert record["dropped_by"] == {"invalid": 2, "duplicate": 1}
    assert [entry["line"] for entry in record["dropped"]] == [3, 5, 6]
    assert record["input"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["output"]["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    again = tmp_path / "again" / "clean.jsonl"
    again.parent.mkdir()
    cleanse(path, again, inspect(path), decision, {"seed": 0})
    assert manifest_path(again).read_bytes() == manifest_path(out).read_bytes()
    assert not decide(inspect(out)).dropped
    assert sorted(p.name for p in again.parent.iterdir()) == [
        "clean.jsonl", "clean.jsonl.manifest.json",
    ]  # fmt: skip


def test_what_cannot_be_done(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [*BASE])
    inspection = inspect(path)
    decision = decide(inspection)
    with pytest.raises(StorageFullError, match="No such file"):
        cleanse(path, tmp_path / "nowhere" / "x", inspection, decision, {})
    write(path, [*BASE, BASE[0]])
    with pytest.raises(RequestError, match="was changed"):
        cleanse(path, tmp_path / "out", inspection, decision, {})
    assert [p.name for p in tmp_path.iterdir()] == ["data.jsonl"]
    with pytest.raises(RequestError, match="no kind of finding"):
        decide(inspection, {"nonsense": "drop"})
    with pytest.raises(RequestError, match="similarity: must be"):
        inspect(path, similarity=0.2)
    with pytest.raises(RequestError, match=r"valid.jsonl: 1 bad rows\n  line 2"):
        inspect(path, write(tmp_path / "valid.jsonl", [BASE[0], b"{}"]))
    empty = write(tmp_path / "empty.jsonl", [chat("a", "")])
    with pytest.raises(RequestError, match="every row would be dropped"):
        cleanse(empty, tmp_path / "out", inspect(empty), decide(inspect(empty)), {})


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        ({"kind": "duplicate", "why": "", "other": 3}, "line 7: duplicate: .* line 3"),
        ({"kind": "leak", "why": "", "other": 3}, "validation line 3"),
        ({"kind": "invalid", "why": "calls '\x1b[31m'"}, r"calls '\\u001b\[31m'"),
    ],
)
def test_findings_as_text(finding: dict[str, Any], text: str) -> None:
    import re

    assert re.search(text, finding_text(Finding(line=7, **finding)))
