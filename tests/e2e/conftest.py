"""The starter model, served: once for each file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.served import Served


@pytest.fixture(scope="module")
def live(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    server = Served(folder, f"file:{starter_path}", FIREFRONT_HOME=folder / "home")
    server.start()
    yield server
    assert server.stop() == 0
