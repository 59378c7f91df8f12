"""Each program that the console prints is run, and says what the console shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console.visitor import Visitor

CONSOLE = Path(__file__).parents[2] / "console"
LANGCHAIN = Path(sys.prefix) / "clients" / "langchain"


def printed(visitor: Visitor, language: str, *, streams: bool = False) -> str:
    """The program in the dialog."""
    visitor.button("Get the code").click()
    visitor.page.get_by_role("tab", name=language, exact=True).click()
    visitor.page.get_by_label("Stream").set_checked(streams)
    panel = visitor.page.get_by_role("tabpanel", name=language, exact=True)
    code = panel.locator("pre code").text_content()
    visitor.button("Close").click()
    return str(code)


def run(code: str, language: str, folder: Path) -> str:
    """What the program prints."""
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    if language == "curl":
        command = ["bash", "-c", code]
    elif language == "JavaScript":
        # Node finds packages from where the program is.
        program = CONSOLE / "node_modules" / f".{os.getpid()}.mjs"
        program.write_text(code, encoding="utf-8")
        command = ["node", str(program)]
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    else:
        program = folder / "program.py"
        program.write_text(code, encoding="utf-8")
        command = [sys.executable, str(program)]
        if language == "LangChain":
            if not LANGCHAIN.is_dir():
                pytest.skip("the packages of langchain are missing: make clients")
            command.insert(1, "-S")
            env["PYTHONPATH"] = str(LANGCHAIN)
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    if language == "JavaScript":
        program.unlink()
    assert ran.returncode == 0, f"{code}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def said(output: str, language: str, *, streams: bool) -> str:
    """The answer's text in what a program printed."""
    if language != "curl":
        return output.removesuffix("\n")
    if not streams:
        return str(json.loads(output)["choices"][0]["message"]["content"])
    lines = [line.removeprefix("data: ") for line in output.splitlines() if line.startswith("data")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines if line != "[DONE]"]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript", "Anthropic", "LangChain"])
def test_a_chat(visitor: Visitor, tmp_path: Path, language: str, streams: bool) -> None:
    instructions = 'Be "brief".\nUse $words & `ticks`, 🔥.'
    visitor.page.get_by_label("Instructions", exact=True).fill(instructions)
    visitor.set_number("Temperature", 0)
    visitor.set_number("Longest answer", 24)
    visitor.page.get_by_text("More parameters").click()
    visitor.set_number("Top K", 5)
    visitor.page.get_by_label("Stop at", exact=True).fill("\\never")
    shown = visitor.ask("What's \"the\" capital of 'France'? \\ $HOME")["content"]
    code = printed(visitor, language, streams=streams)
    assert said(run(code, language, tmp_path), language, streams=streams) == shown


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript", "LangChain"])
def test_a_seed(visitor: Visitor, tmp_path: Path, language: str) -> None:
    visitor.set_number("Temperature", 1.1)
    visitor.set_number("Seed", 42)
    visitor.set_number("Longest answer", 24)
    shown = visitor.ask("Tell me a story.")["content"]
    code = printed(visitor, language)
    assert said(run(code, language, tmp_path), language, streams=False) == shown


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript", "Anthropic", "LangChain"])
def test_calls_and_their_results(visitor: Visitor, tmp_path: Path, language: str) -> None:
    visitor.set_number("Temperature", 0)
    visitor.set_number("Longest answer", 60)
    visitor.button("Add an example").click()
    visitor.page.get_by_label("Whether a tool is called").select_option("required")
    call = visitor.ask("What is the weather in Rome?")["calls"][0]
    output = run(printed(visitor, language), language, tmp_path)
    first = json.dumps(json.loads(call["arguments"])["city"])[1:-1]
    assert "get_weather" in output and first in output
    visitor.page.get_by_label("Whether a tool is called").select_option("none")
    results = visitor.page.get_by_label("What it gives back")
    for index in range(results.count()):
        results.nth(index).fill("21 degrees")
    visitor.page.get_by_role("button", name="Send result").click()
    visitor.answers().nth(1).wait_for()
    visitor.wait_done()
    shown = visitor.last_turn()["content"]
    output = run(printed(visitor, language), language, tmp_path)
    assert said(output, language, streams=False).strip() == shown.strip()


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript", "Anthropic", "LangChain"])
def test_a_schema(visitor: Visitor, tmp_path: Path, language: str) -> None:
    visitor.set_number("Temperature", 0)
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("json_schema")
    visitor.page.get_by_text("Can be honoured").wait_for()
    shown = visitor.ask("The weather in Rome is sunny.")["content"]
    output = run(printed(visitor, language), language, tmp_path)
    assert said(output, language, streams=False) == shown


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_completion(visitor: Visitor, tmp_path: Path, language: str, streams: bool) -> None:
    visitor.go("/completion")
    visitor.set_number("Temperature", 0)
    visitor.set_number("Longest answer", 16)
    visitor.page.get_by_label("Text to go on with").fill('"Once\n upon $a `time`\\')
    visitor.button("Complete").click()
    visitor.answers().wait_for()
    visitor.wait_done()
    shown = visitor.last_turn("completion")["content"]
    output = run(printed(visitor, language, streams=streams), language, tmp_path)
    if language == "curl" and not streams:
        output = json.loads(output)["choices"][0]["text"] + "\n"
    elif language == "curl":
        lines = [line.removeprefix("data: ") for line in output.splitlines() if line]
        chunks = [json.loads(line) for line in lines if line != "[DONE]"]
        output = "".join(chunk["choices"][0]["text"] for chunk in chunks) + "\n"
    assert output.removesuffix("\n") == shown
