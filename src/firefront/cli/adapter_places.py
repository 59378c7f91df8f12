"""Where adapters are: a server that runs, over its API, or the store of this machine.

Both take and give the same; which one is meant is decided here.
"""

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from firefront.cli.api import DEFAULT_URL, Api, answers

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
        self._api = Api(url)
        self.when = f"served now at {self._api.url}"

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
        self._api.send("POST", "/load_lora_adapter", json=body)
        full = f"{model}:{name}" if model is not None and ":" not in name else name
        return _of_card(self._api.json("GET", f"/models/{quote(full)}"))

    def list(self) -> list[Facts]:
        cards = self._api.json("GET", "/models")["data"]
        return [_of_card(card) for card in cards if card.get("adapter")]

    def remove(self, name: str) -> str:
        return str(self._api.json("DELETE", f"/models/{quote(name)}")["id"])


class Kept:
    """The store of this machine, while no server has it open or until it is started anew."""

    when = "served as soon as a server of its base starts"

    def __init__(self, url: str | None) -> None:
        from firefront.gateway.auth import LOCAL_ACCOUNT
        from firefront.store.store import Store
        from firefront.weights.adapter_store import AdapterStore

        self._account = LOCAL_ACCOUNT
        self._store = Store.open(url)
        self._contents = AdapterStore(self._store.adapter_folder)

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
    if url is None and answers(DEFAULT_URL):
        url = DEFAULT_URL
    return Server(url) if url is not None else Kept(store)


def _of_card(card: Facts) -> Facts:
    return {"model": card["id"], "base": card["parent"], **card["adapter"]}


def _of_row(row: Any) -> Facts:
    names = ("id", "name", "rank", "targets", "sha256", "is_pinned", "job_id")
    facts = {name: getattr(row, name) for name in names}
    return {"model": f"{row.base}:{row.name}", "base": row.base, **facts}
