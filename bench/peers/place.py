"""Where peers live and how they get there: virtual environments, sources, commands with progress.

Everything lies below one folder that git ignores. A finished step leaves a stamp with what it was
made from; it is made again only when that changes.
"""

import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Say = Callable[[str], None]
SAY_EVERY_S = 10.0
LINE_LEN = 100


class CannotSetUp(Exception):
    """Why a peer is absent, in words."""


class Place:
    """The folder of one peer: its environment, sources, logs."""

    def __init__(self, root: Path, name: str, say: Say) -> None:
        self.root = root
        self.folder = (root / re.sub(r"\W", "_", name).lower()).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.say: Say = lambda text: say(f"{name}: {text}")

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def once(self, step: str, made_from: str, make: Callable[[], None]) -> None:
        """Run `make` unless its stamp says that it was done from the same things."""
        stamp = self.folder / f"{step}.stamp"
        if stamp.is_file() and stamp.read_text() == made_from:
            return
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(made_from)

    def environment(self, requirements: Iterable[str], without: Iterable[str] = ()) -> None:
        """A virtual environment with these packages, some that they bring taken out again."""
        wanted, unwanted = list(requirements), list(without)

        def make() -> None:
            self.say(f"installing {' '.join(wanted)}")
            self.run("venv", [sys.executable, "-m", "venv", "--clear", self.folder / "venv"])
            pip = [self.python, "-m", "pip", "--disable-pip-version-check"]
            self.run("install", [*pip, "install", *wanted])
            if unwanted:
                self.run("uninstall", [*pip, "uninstall", "--yes", *unwanted])

        self.once("venv", "\n".join([*wanted, *(f"not {name}" for name in unwanted)]), make)

    def source(self, package: str, version: str) -> Path:
        """The folder of the package's unpacked source archive, fetched through pip."""
        stem = f"{package.replace('-', '_')}-{version}"

        def make() -> None:
            archive = self.folder / f"{stem}.tar.gz"
            if not archive.is_file():
                self.say(f"fetching the source of {package} {version}")
                pip = [self.python, "-m", "pip", "--disable-pip-version-check", "download"]
                only = ["--no-deps", "--no-binary", package, "--dest", self.folder]
                self.run("fetch", [*pip, *only, f"{package}=={version}"])
            with tarfile.open(archive) as file:
                file.extractall(self.folder, filter="data")

        self.once("source", stem, make)
        return self.folder / stem

    def run(
        self,
        step: str,
        command: Iterable[object],
        env: Mapping[str, str] | None = None,
        limit_s: float = 3600.0,
    ) -> None:
        """Run with its output in STEP.log, saying its last line now and then."""
        log = self.folder / f"{step}.log"
        started_s = said_s = time.monotonic()
        with log.open("w") as file:
            process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, env=env,
            )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(0.1)
                now_s = time.monotonic()
                if now_s - started_s > limit_s:
                    raise CannotSetUp(f"{step}: not done within {limit_s:.0f} s")
                if now_s - said_s > SAY_EVERY_S:
                    said_s = now_s
                    self.say(f"{step} {now_s - started_s:.0f} s: {last_line(log)}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise CannotSetUp(f"{step}: {last_line(log)} (see {log.name})")


def last_line(log: Path) -> str:
    """The last line that says something, cut short."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4000))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:LINE_LEN] if lines else ""
