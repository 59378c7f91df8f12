"""Every test of the engine runs twice: step by step, and with several decode steps in one call."""

from collections.abc import Iterator

import pytest

from tests.engine import harness


@pytest.fixture(autouse=True, scope="module", params=[1, 7], ids=["steps", "bursts"])
def max_burst(request: pytest.FixtureRequest) -> Iterator[int]:
    """Sets the harness's default; a test that counts steps gives max_burst=1 itself."""
    harness.MAX_BURST = request.param
    yield request.param
    harness.MAX_BURST = 1
