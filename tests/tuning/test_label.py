"""Labels by a teacher: what its draws agree on, what is left out, and going on after a stop."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from firefront.cli.main import main
from firefront.core.chat import Constraint
from firefront.core.errors import ReplicaError, RequestError
from firefront.tuning.evaluation.ask import Answer, OnDone, Question
from firefront.tuning.evaluation.calls import Call
from firefront.tuning.label import LabelConfig, label
from firefront.tuning.line_files import manifest_path
from tests.tuning.chats import read, write
from tests.tuning.model_server import ModelServer

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Teacher:
    """Answers with what `say` makes of a question's text and the number of the draw."""

    name, prices, max_len = "teacher", None, None

    def __init__(self, say: Callable[[str, int], str | Answer], most: int = 10**9) -> None:
        self.say = say
        self.most = most
        self.asked: list[Question] = []

    def ask(self, questions: Sequence[Question], on_done: OnDone) -> list[Answer]:
        answers = []
        for question in questions:
            if len(self.asked) >= self.most:
                raise ReplicaError("gone")
            self.asked.append(question)
            draw = (question.seed or 0) % 32
            said = self.say(question.messages[-1]["content"], draw)
            answers.append(said if isinstance(said, Answer) else Answer(text=said, num_output=1))
            on_done()
        return answers


def prompts(path: Path, *texts: str) -> Path:
    return write(path, [{"prompt": text} for text in texts])


def run(tmp_path: Path, teacher: Any, rows: Path, **config: Any) -> dict[str, Any]:
    return label(rows, tmp_path / "out.jsonl", teacher, LabelConfig(**config))


def answers(tmp_path: Path) -> dict[str, str]:
    rows = read(tmp_path / "out.jsonl")
    return {row["messages"][0]["content"]: row["messages"][-1]["content"] for row in rows}


def test_the_majority_counts_and_too_small_ones_do_not(tmp_path: Path) -> None:
    said = {
        "all": ["Red ", "red", "RED"],
        "two": ["red", "blue", "red"],
        "none": ["a", "b", "c"],
        "cut": ["red", Answer(text="re", is_cut=True), Answer(error="refused")],
        "bad": [Answer(), Answer(error="refused"), Answer(text=" ")],
        "json": ['{"a": "X", "b": 2}', '{"b": 2,"a": "x"}', "{}"],
    }
    teacher = Teacher(lambda text, draw: said[text][draw])
    record = run(tmp_path, teacher, prompts(tmp_path / "in.jsonl", *said), agreement=0.6)
    assert answers(tmp_path) == {"all": "Red", "two": "red", "json": '{"a": "X", "b": 2}'}
    assert record["rows"] == {"read": 6, "labelled": 3, "dropped": 3}
    assert [(entry["line"], entry["why"]) for entry in record["dropped"]] == [
        (3, "1 of 3 draws agree"),
        (4, "1 of 3 draws agree"),
        (5, "no draw is an answer: it is empty"),
    ]
    assert json.loads(manifest_path(tmp_path / "out.jsonl").read_text()) == record
    assert {question.temperature for question in teacher.asked} == {0.7}
    assert len({question.seed for question in teacher.asked}) == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.jsonl", "out.jsonl", "out.jsonl.manifest.json",
    ]  # fmt: skip


def test_what_the_constraint_says_is_checked(tmp_path: Path) -> None:
    rows = prompts(tmp_path / "in.jsonl", '{"n": 1}', '{"n": "1"}', "no", "red", "green")
    teacher = Teacher(lambda text, draw: text)
    schema = Constraint(kind="json_schema", value=SCHEMA)
    record = run(tmp_path, teacher, rows, draws=1, constraint=schema)
    assert answers(tmp_path) == {'{"n": 1}': '{"n": 1}'}
    whys = [entry["why"] for entry in record["dropped"]]
    assert "it is no JSON" in whys[1] and whys[1] == whys[2] and whys[0] != whys[1]
    assert all(q.constraint == schema and q.temperature == 0 for q in teacher.asked)
    run(tmp_path, teacher, rows, constraint=Constraint(kind="choice", value=["red", "blue"]))
    assert answers(tmp_path) == {"red": "red"}


def test_the_teachers_instruction_stays_with_it(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Short."}, {"role": "user", "content": "Which?"}]
    answered = [*messages, {"role": "assistant", "content": "an old answer"}]
    rows = write(tmp_path / "in.jsonl", [{"messages": answered}])
    teacher = Teacher(lambda text, draw: "red")
    run(tmp_path, teacher, rows, instruction="One of red and blue.")
    assert teacher.asked[0].messages == [
        {"role": "system", "content": "One of red and blue."}, messages[1],
    ]  # fmt: skip
    assert read(tmp_path / "out.jsonl") == [
        {"messages": [*messages, {"role": "assistant", "content": "red"}]}
    ]


def test_calls_are_labels_too(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    row = {"messages": [{"role": "user", "content": "2+2"}], "tools": [tool]}
    calls = [[Call("add", {"x": 2, "y": "a"})], [Call("add", {"y": "A", "x": 2})], []]
    teacher = Teacher(lambda text, draw: Answer(calls=calls[draw]))
    run(tmp_path, teacher, write(tmp_path / "in.jsonl", [row]), agreement=0.5)
    (found,) = read(tmp_path / "out.jsonl")
    (call,) = found["messages"][-1]["tool_calls"]
    assert found["tools"] == [tool] and found["messages"][-1]["content"] is None
    assert call["function"] == {"name": "add", "arguments": '{"x": 2, "y": "a"}'}


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rows = prompts(tmp_path / "in.jsonl", *(f"q{i}" for i in range(100)))
    out = tmp_path / "out.jsonl"
    with pytest.raises(ReplicaError):
        run(tmp_path, Teacher(lambda text, draw: "red", most=200), rows)
    journal = tmp_path / "out.jsonl.labels"
    assert not out.exists() and journal.exists()
    with pytest.raises(RequestError, match="another input, teacher or settings"):
        run(tmp_path, Teacher(lambda text, draw: "red"), rows, draws=2)
    with journal.open("ab") as file:
        file.write(b'{"line": 65, "mess')  # a crash in the middle of a write
    teacher, seen = Teacher(lambda text, draw: "red"), []
    record = label(
        rows, out, teacher, LabelConfig(),
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(done, 300) for done in range(192, 301)] and len(teacher.asked) == 300 - 192
    assert record["rows"]["labelled"] == 100 == len(read(out)) and not journal.exists()


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    teacher = Teacher(lambda text, draw: Answer(error="no such model"))
    rows = prompts(tmp_path / "in.jsonl", "a", "b")
    with pytest.raises(RequestError, match=r"not one of 2 rows has a label \(.*no such model"):
        run(tmp_path, teacher, rows)
    (tmp_path / "out.jsonl.labels").write_text("nonsense\n")
    with pytest.raises(RequestError, match="is damaged; remove it"):
        run(tmp_path, teacher, rows)
    for config in ({"draws": 0}, {"agreement": 0.0}, {"temperature": 3.0}, {"seed": -1}):
        with pytest.raises(RequestError, match=next(iter(config))):
            run(tmp_path, teacher, rows, **config)
    with pytest.raises(RequestError, match="schema"):
        run(tmp_path, teacher, rows, constraint=Constraint(kind="json_schema", value={"type": 1}))
    with pytest.raises(RequestError, match="no row to label\n.*needs messages or prompt"):
        run(tmp_path, teacher, write(tmp_path / "in.jsonl", [{"text": "a"}]))


def test_by_the_command_line_and_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(body: dict[str, Any]) -> str:
        return "red" if "rose" in body["messages"][-1]["content"] else "blue" * body["seed"]

    rows = prompts(tmp_path / "in.jsonl", "a rose", "the sea")
    (tmp_path / "rules.txt").write_text("Say a colour.")
    out = tmp_path / "out.jsonl"
    server = ModelServer(big=say)
    try:
        args = ["data", "label", str(rows), "-o", str(out), "--draws", "2", "--agreement", "1"]
        args += ["--instruction", f"@{tmp_path / 'rules.txt'}"]
        args += ["--choice", "red", "--choice", "blue"]
        assert main([*args, "--teacher", server.url]) == 1
        assert "write URL#MODEL" in capsys.readouterr().err
        assert main([*args, "--teacher", f"{server.url}/v1#big"]) == 0
    finally:
        server.close()
    assert "1 of 2 rows" in capsys.readouterr().out and answers(tmp_path) == {"a rose": "red"}
    body = server.bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "Say a colour."}
    assert body["structured_outputs"] == {"choice": ["red", "blue"]}
    assert body["temperature"] == 0.7 and isinstance(body["seed"], int)


def test_with_a_model_here(
    tmp_path: Path, starter_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"enum": ["warm", "cold"]}))
    rows = prompts(tmp_path / "in.jsonl", "Is snow warm or cold?", "Is fire warm or cold?")
    out = tmp_path / "out.jsonl"
    args = ["data", "label", str(rows), "-o", str(out), "--teacher", str(starter_path)]
    assert main([*args, "--schema", str(schema), "--agreement", "0.3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["rows"]["labelled"] == 2 and record["tokens"]["output"] > 0
    assert set(answers(tmp_path).values()) <= {'"warm"', '"cold"'}
