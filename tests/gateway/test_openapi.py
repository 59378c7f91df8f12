"""The OpenAPI document: the one in docs/ is the server's, and what it says of answers is so."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.live import Live

ROOT = Path(__file__).resolve().parents[2]
HELLO = [{"role": "user", "content": "hello STOP"}]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "openapi.json").read_text())


def test_the_snapshot_is_what_the_server_says() -> None:
    command = [sys.executable, str(ROOT / "tools" / "openapi_snapshot.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    stack: list[Any] = [document]
    names = set()
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if isinstance(ref := value.get("$ref"), str):
                names.add(ref.removeprefix("#/components/schemas/"))
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    assert names == set(document["components"]["schemas"])


def test_no_operation_is_undescribed(document: dict[str, Any]) -> None:
    ids = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["tags"], (method, path)
            assert operation["responses"]["200"]["content"], (method, path)
            assert "4XX" in operation["responses"] and "422" not in operation["responses"]
            ids.append(operation["operationId"])
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"prompt": "hello STOP"}),
        ("/v1/responses", {"input": "hello STOP"}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 20}),
    ],
)
def test_answers_have_the_types_that_are_documented(
    live: Live, document: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    documented = document["paths"][path]["post"]["responses"]["200"]["content"]
    for stream in (False, True):
        answer = live.http().post(path, json={"model": "fake", **body, "stream": stream})
        assert answer.status_code == 200
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind == ("text/event-stream" if stream else "application/json")
        assert kind in documented
