"""The starter model through the anthropic SDK, and its tokenizer over HTTP."""

from typing import Any

import anthropic
import pytest

from tests.e2e.served import ASK, Served

GREEDY: Any = {"extra_body": {"temperature": 0}}  # the SDK no longer has a name for it


@pytest.fixture
def claude(live: Served) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=live.url, api_key="none", max_retries=0, _strict_response_validation=True
    )


def test_the_words_are_those_of_chat(live: Served, claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": live.name, "messages": ASK, "max_tokens": 32, **GREEDY}
    whole = claude.messages.create(**asked)
    assert whole.content[0].text == live.chat().choices[0].message.content
    with claude.messages.stream(**asked) as events:
        streamed = events.get_final_message()
    assert streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.stop_sequence) == (whole.stop_reason, None)
    usage = streamed.usage
    counted = claude.messages.count_tokens(model=live.name, messages=ASK).input_tokens
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted


def test_a_prefill_is_gone_on_with(live: Served, claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": live.name, "max_tokens": 8, **GREEDY}
    prefill = {"role": "assistant", "content": "The capital of France is"}
    message = claude.messages.create(**asked, messages=[*ASK, prefill])
    assert "Paris" in message.content[0].text
    assert not message.content[0].text.startswith("The capital")


def test_an_evaluation_harness_finds_the_tokenizer(live: Served) -> None:
    """What lm-eval's remote tokenizer asks for, in its words."""
    http = live.http()
    info = http.get("/tokenizer_info").json()
    assert info["eos_token"] and "messages" in info["chat_template"]
    prompt = http.post("/apply-template", json={"messages": ASK}).json()["prompt"]
    plain = {"prompt": prompt, "add_special_tokens": False}
    tokens = http.post("/tokenize", json=plain).json()["tokens"]
    assert tokens == http.post("/tokenize", json={"messages": ASK}).json()["tokens"]
    assert http.post("/detokenize", json={"tokens": tokens}).json()["prompt"] == prompt
    end = {"prompt": info["eos_token"], "add_special_tokens": False}
    assert len(http.post("/tokenize", json=end).json()["tokens"]) == 1
