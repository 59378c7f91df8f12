"""A client that accepts nothing but what the SDK's own types say."""

import openai
import pytest

from tests.gateway.live import Live


@pytest.fixture
def strict(live: Live) -> openai.OpenAI:
    return live.sdk(_strict_response_validation=True)
