"""How far a command is: for people at a terminal and for logs, never on standard output."""

import io

import pytest

from firefront.cli.progress import StageProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_few(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with StageProgress() as progress:
        for done in range(4):
            progress.show("m[x], asking", done, 3)
            now_s += 2
        progress.show("grading", 1, 1)
    said = capsys.readouterr()
    lines = ["m[x], asking: 0 of 3", "m[x], asking: 3 of 3", "grading: 1 of 1"]
    assert (said.out, said.err.splitlines()) == ("", lines)


def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with StageProgress() as progress:
        progress.show("m[red]x[/], asking", 1, 2)
        progress.show("grading", 1, 1)
    assert "m[red]x[/], asking" in screen.getvalue() and "50%" in screen.getvalue()
    assert "grading" in screen.getvalue()
