"""Which adapter a name means: a folder, a registered one, or none."""

from pathlib import Path

import pytest

from firefront.core.errors import ModelFileError, NotFoundError
from firefront.store.store import Store
from firefront.store.tables import LOCAL_ACCOUNT
from firefront.tuning.evaluation.adapters import find_adapter
from firefront.weights.adapter import WEIGHTS
from firefront.weights.adapter_config import CONFIG
from firefront.weights.adapter_store import TEMPLATE, AdapterStore


def folder_of(path: Path) -> Path:
    path.mkdir()
    for name, text in {CONFIG: "{}", WEIGHTS: "w"}.items():
        (path / name).write_text(text)
    return path


def test_folders_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    folder = folder_of(tmp_path / "mine")
    store = Store.open()
    contents = AdapterStore(store.adapter_folder)
    staged = contents.stage(folder)
    with contents.lock():
        contents.publish(staged)
    store.adapters.create(
        LOCAL_ACCOUNT, name="banking", base="starter", rank=4, targets=["q_proj"],
        sha256=staged.sha256,
    )  # fmt: skip
    store.close()
    by_folder, by_name = find_adapter("starter", str(folder)), find_adapter("starter", "banking")
    assert by_folder.sha256 == by_name.sha256 == staged.sha256
    assert (by_folder.name, by_folder.path) == ("mine", str(folder))
    assert find_adapter("starter", "starter:banking") == by_name
    assert find_adapter("file:models/Starter.gguf", "banking") == by_name
    assert by_name.name == "banking" and (Path(by_name.path) / WEIGHTS).read_text() == "w"
    for base, name in (
        ("other", "banking"),
        ("starter", "nothing"),
        ("starter", "../mine"),
        ("starter", "other:banking"),
        ("nothing", "banking"),
    ):
        with pytest.raises(NotFoundError, match="neither a folder nor"):
            find_adapter(base, name)
    (folder / TEMPLATE).write_text("{{ messages }}")
    staged = contents.stage(folder)
    assert find_adapter("starter", str(folder)).sha256 == staged.sha256 != by_name.sha256
    staged.discard()
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelFileError, match="save_pretrained"):
        find_adapter("starter", str(folder))
