"""One live server for the tests that do no harm, and a maker of others for those that do."""

from collections.abc import Callable, Iterator

import openai
import pytest

from tests.gateway.live import Live


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serves "fake" and "some/other"; shared, so leave it as it was."""
    server = Live(tmp_path_factory.mktemp("live"), "fake", "some/other").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def sdk(live: Live) -> openai.OpenAI:
    return live.sdk()


@pytest.fixture
def make_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Live]]:
    """Start a server of one's own; it is ended after the test."""
    servers = []

    def make(*models: str, **env: object) -> Live:
        server = Live(tmp_path_factory.mktemp("own"), *models, **env)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
