"""The starter model, and a tiny one, served: once for each file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.served import Served
from tests.tuning.tiny_chat import save_chat_model


@pytest.fixture(scope="module")
def live(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    server = Served(folder, f"file:{starter_path}", FIREFRONT_HOME=folder / "home")
    server.start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model small enough to be tuned."""
    folder = tmp_path_factory.mktemp("tiny")
    model = folder / "tiny"
    model.mkdir()
    save_chat_model(model)
    server = Served(folder, str(model), FIREFRONT_HOME=folder / "home")
    server.start()
    yield server
    assert server.stop() == 0
