"""Programs of other people's clients on a real server: text, streaming, tools, structured output.

Each has packages of its own (`make clients` installs requirements/NAME.txt), because some want
other versions than the tests do, and runs with nothing but those and the standard library.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.served import Served

HERE = Path(__file__).parent
PACKAGES = Path(sys.prefix) / "clients"
NAMES = sorted(path.stem for path in (HERE / "requirements").glob("*.txt"))
FEATURES = {"text", "streaming", "tools", "structured output"}


@pytest.fixture(params=NAMES)
def client(request: pytest.FixtureRequest) -> str:
    """The name of a client whose packages are there."""
    name: str = request.param
    if not (PACKAGES / name).is_dir():
        pytest.skip(f"the packages of {name} are missing: make clients")
    return name


def test_program(client: str, live: Served, tmp_path: Path) -> None:
    # -S: not the packages of these tests. Nothing of the user's: no keys, proxies or settings.
    program = HERE / "programs" / f"with_{client}.py"
    ran = subprocess.run(
        [sys.executable, "-S", str(program), f"{live.url}/v1", live.name],
        env={"PYTHONPATH": str(PACKAGES / client), "PATH": os.defpath, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert set(ran.stdout.splitlines()) >= FEATURES


def test_every_program_has_its_packages() -> None:
    programs = {path.stem.removeprefix("with_") for path in (HERE / "programs").glob("*.py")}
    assert programs == set(NAMES)
