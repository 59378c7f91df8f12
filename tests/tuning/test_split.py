"""Rows set apart: by label, groups whole, the same whatever the order, never an empty side."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firefront.core.errors import RequestError
from firefront.tuning.inspection import inspect
from firefront.tuning.line_files import manifest_path
from firefront.tuning.split import split, write_split
from tests.tuning.chats import Row, chat, labelled, read, write

LABELS = ["a"] * 6 + ["b"] * 3 + ["c"]


def question(row: Row) -> str:
    text: str = row["messages"][0]["content"]
    return text


def with_variants(rows: list[Row], every: int) -> list[Row]:
    """Each `every`-th row also with a word more."""
    more = [
        chat(question(row) + " please", row["messages"][1]["content"]) for row in rows[::every]
    ]
    return rows + more


def test_each_label_has_its_share(tmp_path: Path) -> None:
    inspection = inspect(write(tmp_path / "d.jsonl", labelled(LABELS, 300)))
    sides = split(inspection, share=0.2)
    labels = {fact.line: fact.label for fact in inspection.facts}
    assert Counter(labels[line] for line in sides.validation) == {"a": 36, "b": 18, "c": 6}
    assert sides.train | sides.validation == labels.keys()
    assert not sides.train & sides.validation
    assert split(inspection, share=0.2) == sides
    assert split(inspection, share=0.2, seed=1) != sides
    assert len(split(inspection, share=0.2, max_rows=20).validation) == 20


def test_groups_stay_together_whatever_the_order(tmp_path: Path) -> None:
    rows = with_variants(labelled(LABELS, 200), 2)
    chosen = []
    for shuffle in range(2):
        random.Random(shuffle).shuffle(rows)
        path = write(tmp_path / f"{shuffle}.jsonl", rows)
        inspection = inspect(path)
        sides = split(inspection, share=0.25)
        root = dict(zip((f.line for f in inspection.facts), inspection.groups, strict=True))
        train, valid = ({root[line] for line in lines} for lines in (sides.train, sides.validation))
        assert not train & valid and len(valid) < len(sides.validation)
        assert 60 <= len(sides.validation) <= 75
        chosen.append({question(rows[line - 1]) for line in sides.validation})
    assert chosen[0] == chosen[1]


def test_files_and_manifest(tmp_path: Path) -> None:
    rows = [*labelled(LABELS, 50), b"no row"]
    path = write(tmp_path / "d.jsonl", rows)
    inspection = inspect(path)
    sides = split(inspection, without={1, 2})
    train, valid = tmp_path / "t.jsonl", tmp_path / "v.jsonl"
    record = write_split(path, inspection, sides, train, valid, {"seed": 0})
    assert len(read(train)) + len(read(valid)) == 48 and len(read(valid)) == 5
    assert read(valid) == [rows[line - 1] for line in record["validation_lines"]]
    assert json.loads(manifest_path(train).read_text()) == record
    assert record["labels"]["validation"] == {"a": 3, "b": 2}
    assert inspect(train, valid).leaked["inputs"] == 0


def test_what_cannot_be_split(tmp_path: Path) -> None:
    same = inspect(write(tmp_path / "d.jsonl", [chat("What is the time now?", "x")] * 9))
    with pytest.raises(RequestError, match="give a validation file"):
        split(same)
    with pytest.raises(RequestError, match="no row that can be read\n  line 1"):
        split(inspect(write(tmp_path / "d.jsonl", [b"{}"])))
    two = inspect(write(tmp_path / "d.jsonl", labelled(["a"], 2)))
    assert len(split(two).validation) == len(split(two).train) == 1
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(RequestError, match="share"):
            split(two, share=share)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=25),
    share=st.floats(0.01, 0.6),
    seed=st.integers(0, 3),
)
def test_both_sides_have_rows_and_the_share_is_kept(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], share: float, seed: int
) -> None:
    rows = labelled(["a", "b", "b"], len(sizes))
    repeated = [row for row, num in zip(rows, sizes, strict=True) for _ in range(num)]
    inspection = inspect(write(tmp_path_factory.getbasetemp() / "h.jsonl", repeated))
    sides = split(inspection, share=share, seed=seed)
    assert sides.train and sides.validation
    assert len(sides.validation) <= max(max(sizes), round(len(repeated) * share), 1)
