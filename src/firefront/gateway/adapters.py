"""The adapters that may be asked for, by account, base and name.

Owns the registry in memory, filled from the store and changed together with it. Knows no HTTP.
Invariants: an adapter that is found here has its files; what a request has found it keeps to its
end, whatever comes under that name meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from firefront.core.errors import (
    FirefrontError,
    ModelFileError,
    NotFoundError,
    OverloadedError,
    RequestError,
)
from firefront.core.messages import AdapterRef
from firefront.fleet.router import Router, spellings
from firefront.gateway import registering
from firefront.gateway.registering import BaseModel, ReadAdapter
from firefront.gateway.render import Renderer

if TYPE_CHECKING:
    from firefront.store.adapters import StoredAdapter  # heavy
    from firefront.store.store import Store  # heavy
    from firefront.weights.adapter_store import AdapterStore  # heavy

KEEP_S = 60.0  # files of what was removed: somebody may have found it just before
log = structlog.get_logger("firefront.adapters")


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that may be asked for. `renderer` where it has a chat template of its own."""

    row: "StoredAdapter"
    ref: AdapterRef
    renderer: Renderer | None = None

    @property
    def model(self) -> str:
        """The name that /v1/models lists."""
        return f"{self.row.base}:{self.row.name}"


class Adapters:
    """The registry. All methods run on the event loop; what blocks is done in threads."""

    def __init__(
        self,
        router: Router,
        renderers: Mapping[str, Renderer],
        *,
        in_use: Callable[[], Iterable[str]],
        on_gone: Callable[[ServedAdapter], None] = lambda adapter: None,
        read: ReadAdapter = registering.read_adapter,
        keep_s: float = KEEP_S,
    ) -> None:
        """`in_use`: digests of the adapters that requests run on; `on_gone` is told what left."""
        self._router = router
        self._renderers = renderers
        self._in_use = in_use
        self._on_gone = on_gone
        self._read = read
        self._keep_s = keep_s
        self._named: dict[tuple[str, str, str], ServedAdapter] = {}
        self._own_renderers: dict[tuple[str, str], Renderer] = {}  # by base and template
        self._changing = asyncio.Lock()
        self.is_loading = False  # set by whoever calls `load`, from before to after it
        self._store: Store | None = None
        self._contents: AdapterStore | None = None
        self._removing: set[asyncio.Task[None]] = set()

    async def load(self, store: "Store") -> None:
        """Take in what the store has for the models served; their renderers are there."""
        self._contents = await asyncio.to_thread(registering.open_contents, store)
        num_others = 0
        for row in await store.run(store.adapters.serving):
            if not await asyncio.to_thread(self._is_served_here, row):
                num_others += 1
                continue
            try:
                await self._enter(row)
            except FirefrontError as error:
                log.error("adapter not served", model=f"{row.base}:{row.name}", error=error.message)
        if self._named or num_others:
            log.info("adapters", num_served=len(self._named), num_of_other_models=num_others)
        self._store = store

    def find(self, account_id: str, model: str) -> tuple[str, ServedAdapter] | None:
        """The adapter that `model` names, as BASE:NAME or NAME, in any spelling that the router
        knows, and that name. RequestError where NAME is one of several bases'."""
        for name in spellings(model):
            base, colon, bare = name.rpartition(":")
            if colon and (adapter := self._named.get((account_id, base, bare))) is not None:
                return name, adapter
            named = [
                self._named[key]
                for replica in self._router.replicas
                if (key := (account_id, replica.name, name)) in self._named
            ]
            if len(named) > 1:
                choices = " or ".join(adapter.model for adapter in named)
                raise RequestError(f"model: {name!r} is ambiguous; say {choices}", param="model")
            if named:
                return name, named[0]
        if self.is_loading:  # it may be known in a moment
            raise OverloadedError("the adapters are being read", retry_after_s=1.0)
        return None

    def serves(self, row: "StoredAdapter") -> bool:
        """Whether an adapter of this name may be asked for."""
        return _key(row) in self._named

    def all(self, account_id: str) -> list[ServedAdapter]:
        """The account's adapters, by base in the router's order, then by name."""
        order = {replica.name: place for place, replica in enumerate(self._router.replicas)}
        mine = [adapter for key, adapter in self._named.items() if key[0] == account_id]
        return sorted(mine, key=lambda adapter: (order[adapter.row.base], adapter.row.name))

    def place(self, given: str, base: str | None, param: str) -> tuple[BaseModel, str]:
        """The base and the name that `given` means for a new adapter: NAME or BASE:NAME. `base` may
        say which base; RequestError where neither does and several models are served."""
        from firefront.store.adapters import checked_name  # heavy

        said, colon, name = given.rpartition(":")
        replicas = self._router.replicas
        if colon or base is not None:
            replica = self._router.find(base if base is not None else said)
            if colon and said != replica.name:
                raise RequestError(f"{param}: names another base than {replica.name}", param=param)
        elif len(replicas) == 1:
            replica = replicas[0]
        else:
            names = ", ".join(replica.name for replica in replicas)
            raise RequestError(f"{param}: say which base, BASE:NAME; one of {names}", param=param)
        name = checked_name(name, param)
        if self._router.get(name) is not None:
            raise RequestError(f"{param}: {name!r} is a base model's name", param=param)
        return BaseModel(replica.name, replica.deployment.model), name

    async def add(
        self,
        account_id: str,
        folder: Path,
        *,
        name: str,
        base: BaseModel,
        replaces: bool = False,
        is_pinned: bool = False,
        job_id: str | None = None,
    ) -> ServedAdapter:
        """Register the adapter in `folder` and serve it. Requests that come from now on get it.
        `job_id`: the job that made it, if one did."""
        store, contents = self._opened()
        async with self._changing:
            before = self._named.get((account_id, base.name, name))
            if before is not None and not replaces:
                raise taken(name)
            prepared = await asyncio.to_thread(
                registering.prepare, contents, folder, base, self._read
            )
            try:
                row = await store.run(
                    registering.keep, store, contents, account_id, prepared,
                    name=name, replaces=replaces, is_pinned=is_pinned, job_id=job_id,
                )  # fmt: skip
            finally:
                prepared.staged.discard()
            if before is not None and before.row == row:
                return before
            adapter = await self._enter(row)
            if before is not None:
                self._collect_later(before.ref.sha256)
        log.info("adapter served", model=adapter.model, rank=row.rank, sha256=row.sha256)
        return adapter

    async def remove(self, adapter: ServedAdapter, *, keeps_row: bool = False) -> None:
        """Serve it no more. Requests that run on it go on; its row is deleted, or retired."""
        store, _ = self._opened()
        row = adapter.row
        async with self._changing:
            if self._named.get(_key(row)) is not adapter:
                raise NotFoundError(f"model {adapter.model!r} does not exist", param="model")
            if keeps_row:
                await store.run(store.adapters.retire, row.account_id, row.id)
            else:
                await store.run(store.adapters.delete, row.account_id, row.id)
            del self._named[_key(row)]
        self._on_gone(adapter)
        self._collect_later(row.sha256)
        log.info("adapter removed", model=adapter.model)

    async def _enter(self, row: "StoredAdapter") -> ServedAdapter:
        adapter = await asyncio.to_thread(self._served, row)
        self._named[_key(row)] = adapter
        return adapter

    def _served(self, row: "StoredAdapter") -> ServedAdapter:
        assert self._contents is not None
        path = self._contents.path(row.sha256)
        ref = AdapterRef(
            name=row.name, sha256=row.sha256, path=str(path), is_pinned=row.is_pinned
        )
        return ServedAdapter(row, ref, self._own_renderer(row, path))

    def _own_renderer(self, row: "StoredAdapter", path: Path) -> Renderer | None:
        """Of an adapter whose chat template is not its base's."""
        if row.template_sha256 is None:
            return None
        from firefront.weights.adapter_store import TEMPLATE, read_template  # heavy

        tokenizer, file = self._renderers[row.base].tokenizer, path / TEMPLATE
        text = read_template(path)
        if text is None:
            raise ModelFileError(file, "chat_template", "is missing; load the adapter again")
        if text == tokenizer.info()["chat_template"]:
            return None
        key = row.base, row.template_sha256
        if key not in self._own_renderers:
            self._own_renderers[key] = Renderer(tokenizer.with_template(text, str(file)))
        return self._own_renderers[key]

    def _is_served_here(self, row: "StoredAdapter") -> bool:
        """Whether its base is: by name, and by digest where both are known."""
        from firefront.weights.model_store import manifest_sha256  # heavy

        replica = self._router.get(row.base)
        if replica is None:
            return False
        sha256 = manifest_sha256(Path(replica.deployment.model))
        return None in (sha256, row.base_sha256) or sha256 == row.base_sha256

    def _opened(self) -> "tuple[Store, AdapterStore]":
        if self._store is None or self._contents is None:
            if self.is_loading:
                raise OverloadedError("the adapters are being read", retry_after_s=1.0)
            raise NotFoundError("this server stores nothing", code="no_store")
        return self._store, self._contents

    def _collect_later(self, sha256: str) -> None:
        asyncio.get_running_loop().call_later(self._keep_s, self._collect, sha256)

    def _collect(self, sha256: str) -> None:
        if sha256 in self._in_use():
            self._collect_later(sha256)
            return
        if all(adapter.row.sha256 != sha256 for adapter in self._named.values()):
            for replica in self._router.replicas:
                replica.unload_adapter(sha256)
        removing = asyncio.create_task(self._remove_files(sha256))
        self._removing.add(removing)  # else nothing might hold it
        removing.add_done_callback(self._removing.discard)

    async def _remove_files(self, sha256: str) -> None:
        store, contents = self._opened()
        try:
            await store.run(registering.collect, store, contents, sha256)
        except (FirefrontError, OSError) as error:  # the next start will do
            log.warning("adapter's files not removed", sha256=sha256, error=str(error))


def taken(name: str) -> RequestError:
    """In vLLM's words."""
    return RequestError(
        f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in "
        "place, set 'load_inplace' to True.",
        param="lora_name",
    )


def _key(row: "StoredAdapter") -> tuple[str, str, str]:
    return row.account_id, row.base, row.name
