"""Who may listen where, and the logprob shapes and flags that need no server."""

import pytest

from firefront.backends.cpu.machine import num_cpus
from firefront.cli.serve import resolve_deployments
from firefront.core.errors import RequestError
from firefront.core.messages import Logprob
from firefront.gateway.auth import allowed_hosts, check_bind
from firefront.gateway.logprob_shapes import LegacyLogprobs, chat_entry, token_text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.5.5.5"])
def test_loopback_needs_nothing(host: str) -> None:
    check_bind(host, insecure=False, require_key=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_elsewhere_needs_insecure(host: str) -> None:
    with pytest.raises(RequestError, match="--insecure"):
        check_bind(host, insecure=False, require_key=False)
    check_bind(host, insecure=True, require_key=False)
    assert allowed_hosts(host, []) is None


def test_require_key_is_not_there_yet() -> None:
    with pytest.raises(RequestError, match="--require-key"):
        check_bind("127.0.0.1", insecure=False, require_key=True)


def test_threads_are_divided(capsys: pytest.CaptureFixture[str]) -> None:
    two = resolve_deployments(["a", "b"], None, {"threads": None})
    assert [d.threads for d in two] == [max(1, num_cpus() // 2)] * 2
    assert "threads each" in capsys.readouterr().out
    assert [d.threads for d in resolve_deployments(["a", "b"], None, {"threads": 3})] == [3, 3]
    assert [d.threads for d in resolve_deployments(["a"], None, {})] == [0]
    with pytest.raises(RequestError, match="--model"):
        resolve_deployments([], None, {})


def test_token_text() -> None:
    assert token_text("é".encode()) == "é"
    assert token_text(b"\xc3") == "bytes:\\xc3"


def test_minus_infinity_is_still_json() -> None:
    entry = chat_entry(Logprob(1, float("-inf"), b"a", ((2, float("-inf"), b"b"),)))
    assert entry["logprob"] == entry["top_logprobs"][0]["logprob"] == -9999.0


def test_offsets_count_characters_over_chunks() -> None:
    legacy = LegacyLogprobs(0)
    raw = [b"a", b"\xc3", b"\xa9", b"b"]
    first = legacy.chunk([Logprob(0, -1.0, b) for b in raw[:2]])
    second = legacy.chunk([Logprob(0, -1.0, b) for b in raw[2:]])
    assert first["text_offset"] + second["text_offset"] == [0, 1, 1, 2]
