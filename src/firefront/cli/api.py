"""A running server's API, as the commands use it.

Owns the address, the key and the words of what goes wrong. Knows no route.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8000"
_PROBE_S = 0.5
_KEY = "FIREFRONT_API_KEY"


class Api:
    """The server at `url`, with or without /v1 at its end; FIREFRONT_API_KEY is the key."""

    def __init__(self, url: str) -> None:
        import httpx2

        from firefront.core.errors import RequestError

        self.url = url.rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")):
            raise RequestError(f"--url {url}: must start with http:// or https://", param="url")
        headers = {"Authorization": f"Bearer {os.environ.get(_KEY, 'local')}"}
        timeout = httpx2.Timeout(10.0, read=600.0)
        self._client = httpx2.Client(base_url=f"{self.url}/v1", headers=headers, timeout=timeout)

    def send(self, method: str, path: str, **options: Any) -> Any:
        """The answer to a request for a path below /v1. ReplicaError where nothing answers, the
        server's own words for an error."""
        with self.stream(method, path, **options) as response:
            response.read()
            return response

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON."""
        return self.send(method, path, **options).json()

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[Any]:
        """As `send`, the answer while it comes."""
        import httpx2

        from firefront.core.errors import ReplicaError

        try:
            with self._client.stream(method, path, **options) as response:
                _check(response)
                yield response
        except httpx2.TransportError as error:
            raise ReplicaError(f"{self.url}: {error}; is the server running?") from None

    def upload(self, path: Path) -> str:
        """Send a file of rows; its id. RequestError if it cannot be read."""
        from firefront.core.errors import RequestError

        try:
            with path.open("rb") as file:
                form = {"files": {"file": (path.name, file)}, "data": {"purpose": "fine-tune"}}
                return str(self.json("POST", "/files", **form)["id"])
        except OSError as error:
            raise RequestError(f"{path}: {error.strerror}", param="data") from None

    def close(self) -> None:
        self._client.close()


def answers(url: str) -> bool:
    """Whether a server of ours is there."""
    import httpx2

    try:
        cards = httpx2.get(f"{url}/v1/models", timeout=_PROBE_S).json()["data"]
        return bool(cards[0]["owned_by"] == "firefront")
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return False


def _check(response: Any) -> None:
    """Raise the server's own message for an error answer."""
    from firefront.core.errors import FirefrontError, OverloadedError, ReplicaError, RequestError

    if response.status_code < 400:
        return
    body = response.read()
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode("utf-8", "replace") or "no message"
    kind: type[FirefrontError] = RequestError if response.status_code < 500 else ReplicaError
    if response.status_code in (429, 503):
        kind = OverloadedError
    raise kind(f"the server answered {response.status_code}: {message}")
