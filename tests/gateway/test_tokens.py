"""/tokenize and its like: one answer for vLLM's clients and for llama.cpp's."""

import json
from typing import Any

import httpx2
import hypothesis
import pytest
from hypothesis import strategies as st

from tests.gateway.fakes import BOS, EOS
from tests.gateway.live import Live

HELLO = [{"role": "user", "content": "hello"}]
PATHS = ("/tokenize", "/detokenize", "/apply-template")


@pytest.fixture(scope="module")
def http(live: Live) -> httpx2.Client:
    return live.http()


def post(http: httpx2.Client, path: str, **body: Any) -> Any:
    answer = http.post(path, json={"model": "fake", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_vllms_words(http: httpx2.Client) -> None:
    answer = post(http, "/tokenize", prompt="hé", return_token_strs=True)
    assert answer == {
        "count": 3,
        "max_model_len": 2048,
        "tokens": [104, 195, 169],
        "token_strs": ["h", "\ufffd", "\ufffd"],
    }
    assert post(http, "/tokenize", prompt="h")["token_strs"] is None
    assert post(http, "/v1/tokenize", prompt="h")["tokens"] == [104]
    assert post(http, "/detokenize", tokens=[104, 195, 169])["prompt"] == "hé"
    assert post(http, "/v1/detokenize", tokens=[])["prompt"] == ""


def test_llama_cpps_words(http: httpx2.Client) -> None:
    assert post(http, "/tokenize", content="hi")["tokens"] == [104, 105]
    pieces = post(http, "/tokenize", content="hé", with_pieces=True)["tokens"]
    assert pieces == [
        {"id": 104, "piece": "h"},
        {"id": 195, "piece": [195]},
        {"id": 169, "piece": [169]},
    ]
    assert post(http, "/detokenize", tokens=[104, 105])["content"] == "hi"


def test_special_tokens_spelled_out(http: httpx2.Client) -> None:
    """An evaluation harness learns the id of the end of text this way."""
    assert post(http, "/tokenize", prompt="a<eos>b")["tokens"] == [97, EOS, 98]
    spelled = post(http, "/tokenize", prompt="<eos>", parse_special=False)["tokens"]
    assert bytes(spelled) == b"<eos>"
    assert post(http, "/detokenize", tokens=[97, EOS, 98])["prompt"] == "a<eos>b"


def test_conversations(live: Live, http: httpx2.Client) -> None:
    answer = post(http, "/tokenize", messages=HELLO)
    assert answer["tokens"] == [BOS, *b"user: hello\n"]
    usage = live.sdk().chat.completions.create(model="fake", messages=HELLO, max_tokens=1).usage
    assert answer["count"] == usage.prompt_tokens
    assert post(http, "/apply-template", messages=HELLO) == {"prompt": "user: hello\n"}
    messages = [*HELLO, {"role": "assistant", "content": "We"}]
    continued = post(http, "/apply-template", messages=messages, continue_final_message=True)
    assert continued == {"prompt": "user: hello\nassistant: We"}


def test_the_model_may_be_left_out_where_there_is_one(make_live: Any, http: httpx2.Client) -> None:
    several = http.post("/tokenize", json={"prompt": "x"})
    assert several.status_code == 400
    error = several.json()["error"]
    assert error["param"] == "model" and "some/other" in error["message"]
    assert http.get("/tokenizer_info").status_code == 400
    alone = make_live("fake").http()
    assert alone.post("/tokenize", json={"prompt": "x"}).json()["tokens"] == [120]
    assert alone.post("/detokenize", json={"tokens": [120]}).json()["prompt"] == "x"
    assert alone.get("/tokenizer_info").json()["eos_token"] == "<eos>"


def test_tokenizer_info(http: httpx2.Client) -> None:
    info = http.get("/tokenizer_info?model=fake").json()
    assert info["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert info["model_max_length"] == 2048
    assert http.get("/tokenizer_info?model=nobody").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "content": "y"}, "content"),
        ("/tokenize", {"prompt": "x", "messages": HELLO}, "messages"),
        ("/tokenize", {"prompt": ["x"]}, "prompt"),
        ("/tokenize", {"prompt": "x" * ((1 << 20) + 1)}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"messages": HELLO, "chat_template": "x"}, "chat_template"),
        ("/tokenize", {"messages": HELLO, "tools": [{"type": "x"}]}, "tools[0].type"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [300]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [10**30]}, "tokens"),
        ("/apply-template", {}, "messages"),
        ("/apply-template", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_refusals(http: httpx2.Client, path: str, body: dict[str, Any], param: str) -> None:
    answer = http.post(path, json={"model": "fake", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


FIELDS = (
    "prompt content messages tokens add_special_tokens add_special parse_special with_pieces "
    "return_token_strs tools add_generation_prompt continue_final_message chat_template_kwargs"
).split()
SCALARS = st.one_of(
    st.integers(-(10**20), 10**20) | st.integers(0, 300), st.booleans(), st.text(), st.none()
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": SCALARS}), max_size=2),
    st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
)


@hypothesis.settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    path=st.sampled_from(PATHS),
    body=st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3),
)
def test_no_body_is_a_5xx(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    answer = http.post(path, content=json.dumps({"model": "fake", **body}).encode())
    assert answer.status_code in (200, 400), answer.text
