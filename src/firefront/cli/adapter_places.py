"""Where adapters are: a server that runs, over its API, or the store of this machine.

Both take and give the same; which one is meant is decided here.
"""

import os
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

DEFAULT_URL = "http://127.0.0.1:8000"
_PROBE_S = 0.5
_KEY = "FIREFRONT_API_KEY"
Facts = dict[str, Any]


class Place(Protocol):
    """Where adapters are. `when`: when one that was loaded there is served."""

    when: str

    def load(
        self, name: str, folder: Path, model: str | None, *, pin: bool, replace: bool
    ) -> Facts: ...
    def list(self) -> list[Facts]: ...
    def remove(self, name: str) -> str: ...


class Server:
    """A server that runs, over its API."""

    def __init__(self, url: str) -> None:
        import httpx2

        from firefront.core.errors import RequestError

        base = url.rstrip("/").removesuffix("/v1")
        if not base.startswith(("http://", "https://")):
            raise RequestError(f"--url {url}: must start with http:// or https://", param="url")
        self.when = f"served now at {base}"
        headers = {"Authorization": f"Bearer {os.environ.get(_KEY, 'local')}"}
        timeout = httpx2.Timeout(10.0, read=600.0)
        self._client = httpx2.Client(base_url=f"{base}/v1", headers=headers, timeout=timeout)

    def load(
        self, name: str, folder: Path, model: str | None, *, pin: bool, replace: bool
    ) -> Facts:
        body = {
            "lora_name": name,
            "lora_path": str(folder),
            "base_model_name": model,
            "is_pinned": pin,
            "load_inplace": replace,
        }
        self._send("POST", "/load_lora_adapter", json=body)
        full = f"{model}:{name}" if model is not None and ":" not in name else name
        return _of_card(self._send("GET", f"/models/{quote(full)}").json())

    def list(self) -> list[Facts]:
        cards = self._send("GET", "/models").json()["data"]
        return [_of_card(card) for card in cards if card.get("adapter")]

    def remove(self, name: str) -> str:
        return str(self._send("DELETE", f"/models/{quote(name)}").json()["id"])

    def _send(self, method: str, path: str, **options: Any) -> Any:
        import httpx2

        from firefront.cli.talk import check_answer
        from firefront.core.errors import ReplicaError

        try:
            response = self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise ReplicaError(
                f"{self._client.base_url}: {error}; is the server running?"
            ) from None
        check_answer(response)
        return response


class Kept:
    """The store of this machine, while no server has it open or until it is started anew."""

    when = "served as soon as a server of its base starts"

    def __init__(self, url: str | None) -> None:
        from firefront.gateway.auth import LOCAL_ACCOUNT
        from firefront.gateway.registering import open_contents
        from firefront.store.store import Store

        self._account = LOCAL_ACCOUNT
        self._store = Store.open(url)
        self._contents = open_contents(self._store)

    def load(
        self, name: str, folder: Path, model: str | None, *, pin: bool, replace: bool
    ) -> Facts:
        from firefront.core.errors import RequestError
        from firefront.gateway.registering import BaseModel, keep, prepare
        from firefront.store.adapters import checked_name
        from firefront.weights import fetch

        said, colon, bare = name.rpartition(":")
        spec = model if model is not None else said
        if not spec:
            raise RequestError(
                "--model: say which base it is for, for example --model starter", param="model"
            )
        base = BaseModel(fetch.model_name(spec), str(fetch.find_here(spec)))
        if colon and said != base.name:
            raise RequestError(f"{name}: names another base than {base.name}", param="name")
        checked_name(bare, "name")
        prepared = prepare(self._contents, folder, base)
        row = keep(
            self._store, self._contents, self._account, prepared,
            name=bare, replaces=replace, is_pinned=pin,
        )  # fmt: skip
        return _of_row(row)

    def list(self) -> list[Facts]:
        page = self._store.adapters.list(self._account, limit=10_000, order="asc")
        return [_of_row(row) for row in page.items]

    def remove(self, name: str) -> str:
        from firefront.gateway.registering import collect

        found = self.find(name)
        self._store.adapters.delete(self._account, found["id"])
        collect(self._store, self._contents, found["sha256"])
        return str(found["model"])

    def folder(self, sha256: str) -> Path:
        return self._contents.path(sha256)

    def find(self, name: str) -> Facts:
        """The one that is called so, BASE:NAME or NAME."""
        from firefront.core.errors import NotFoundError, RequestError

        found = [facts for facts in self.list() if name in (facts["model"], facts["name"])]
        if not found:
            raise NotFoundError(f"no adapter {name!r}; firefront adapters ls lists them")
        if len(found) > 1:
            choices = " or ".join(facts["model"] for facts in found)
            raise RequestError(f"{name!r} is ambiguous; say {choices}", param="name")
        return found[0]


def place_of(url: str | None, store: str | None) -> Place:
    """The server at `url`, or one that runs at the usual place, or else the store."""
    if url is None and _answers(DEFAULT_URL):
        url = DEFAULT_URL
    return Server(url) if url is not None else Kept(store)


def _answers(url: str) -> bool:
    """Whether a server of ours is there."""
    import httpx2

    try:
        cards = httpx2.get(f"{url}/v1/models", timeout=_PROBE_S).json()["data"]
        return bool(cards[0]["owned_by"] == "firefront")
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return False


def _of_card(card: Facts) -> Facts:
    return {"model": card["id"], "base": card["parent"], **card["adapter"]}


def _of_row(row: Any) -> Facts:
    names = ("id", "name", "rank", "targets", "sha256", "is_pinned", "job_id")
    facts = {name: getattr(row, name) for name in names}
    return {"model": f"{row.base}:{row.name}", "base": row.base, **facts}
