"""The official SDK, strict: every answer must be what its types say."""

import anthropic
import pytest

from tests.gateway.live import Live


@pytest.fixture
def claude(live: Live) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=live.url,
        api_key="none",
        max_retries=0,
        timeout=30,
        _strict_response_validation=True,
    )
