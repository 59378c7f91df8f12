"""Every snippet of the migration pages runs as it stands, but for the server's address."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firefront.cli.main import COMMANDS, LazyGroup
from tests.e2e.served import Served

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "migrate").glob("*.md"))
ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
SNIPPETS = [
    pytest.param(language, code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (language, code) in enumerate(BLOCK.findall(page.read_text()))
]


@pytest.mark.parametrize(("language", "code"), SNIPPETS)
def test_snippet(
    live: Served, starter_path: Path, tmp_path: Path, language: str, code: str
) -> None:
    if language == "console":
        for line in code.splitlines():
            _parse(line)
        return
    code = code.replace(ADDRESS, live.url).replace('LLM("starter")', f'LLM("file:{starter_path}")')
    if language == "python":
        script = tmp_path / "snippet.py"
        script.write_text(code)
        command = [sys.executable, str(script)]
    else:
        assert language == "sh"
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        command = ["sh", "-c", code.replace("curl -s", "curl -sS --fail-with-body")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def _parse(line: str) -> None:
    """A command line of ours has only options that there are."""
    name, *arguments = line.split()
    assert name == "firefront"
    assert arguments[0] in COMMANDS
    command = LazyGroup(name="firefront").get_command(None, arguments[0])
    command.make_context(arguments[0], arguments[1:]).close()


def test_every_page_has_snippets_and_is_listed() -> None:
    listed = (PAGES[0].parent / "README.md").read_text()
    assert len(SNIPPETS) > 12
    for page in PAGES:
        assert BLOCK.search(page.read_text()), page.name
        assert page.name == "README.md" or f"]({page.name})" in listed
