"""How an adapter comes to be one: copied, read against its base model, kept, named.

Blocks: the gateway calls it in threads, the command line as it is. Invariant: an adapter with a row
has its files, and they fitted the base when it was registered; whatever fails leaves neither.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firefront.core.disk import disk_errors
from firefront.core.errors import NotFoundError

if TYPE_CHECKING:
    from firefront.store.adapters import StoredAdapter  # heavy
    from firefront.store.store import Store  # heavy
    from firefront.weights.adapter_store import AdapterStore, Staged  # heavy


GGUF = ".gguf"


@dataclass(frozen=True)
class AdapterFacts:
    """What an adapter that fits its base is: its largest rank, the kinds of linears it changes."""

    rank: int
    targets: list[str]


@dataclass(frozen=True)
class BaseModel:
    """A base model: the name it is served under and where its files are."""

    name: str
    path: str


ReadAdapter = Callable[[str, Path], AdapterFacts]  # of the base's path and the adapter's folder


def read_adapter(base_path: str, folder: Path) -> AdapterFacts:
    """Read all of an adapter; ModelFileError says what of it the base does not have."""
    from firefront.text.template import ChatTemplate  # heavy
    from firefront.weights.adapter import open_adapter  # heavy
    from firefront.weights.adapter_store import TEMPLATE, read_template
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.layout import adapter_shapes

    with open_checkpoint(base_path) as checkpoint:
        shapes = adapter_shapes(checkpoint.config)
    adapter = open_adapter(folder, shapes)
    if (template := read_template(folder)) is not None:
        ChatTemplate({"default": template}, str(folder / TEMPLATE), {}).check()
    targets = {name.rpartition(".")[2] for name in adapter.parts}
    return AdapterFacts(adapter.rank, sorted(targets))


def open_contents(store: "Store") -> "AdapterStore":
    """The adapters' files of a store, without what crashes left. For a server that starts: one that
    runs may still need what no row has any more."""
    from firefront.weights.adapter_store import AdapterStore  # heavy

    contents = AdapterStore(store.adapter_folder)
    with contents.lock():
        contents.sweep(store.adapters.digests())
    return contents


@dataclass(frozen=True)
class Prepared:
    """A copy of an adapter that fits its base. `keep` it, or `staged.discard()`."""

    staged: "Staged"
    facts: AdapterFacts
    base: BaseModel


def prepare(
    contents: "AdapterStore", folder: Path, base: BaseModel, read: ReadAdapter = read_adapter
) -> Prepared:
    """Copy an adapter in and read the copy. ModelFileError names what is wrong with it.

    `folder` may also be a .gguf file, which is kept as PEFT's files that say the same.
    """
    with _as_peft(folder, base) as source:
        staged = contents.stage(source)
    try:
        return Prepared(staged, read(base.path, staged.path), base)
    except BaseException:
        staged.discard()
        raise


@contextmanager
def _as_peft(given: Path, base: BaseModel) -> Iterator[Path]:
    """The folder that was given, or one made of a GGUF adapter."""
    if given.suffix != GGUF or not os.path.isfile(given):
        yield given
        return
    from firefront.weights.adapter_gguf import gguf_to_peft
    from firefront.weights.checkpoint import open_checkpoint

    with open_checkpoint(base.path) as checkpoint:
        config = checkpoint.config
    with disk_errors(), tempfile.TemporaryDirectory(prefix="firefront-") as folder:
        gguf_to_peft(given, config, Path(folder))
        yield Path(folder)


def keep(
    store: "Store",
    contents: "AdapterStore",
    account_id: str,
    prepared: Prepared,
    *,
    name: str,
    replaces: bool = False,
    is_pinned: bool = False,
    job_id: str | None = None,
) -> "StoredAdapter":
    """Make it the account's adapter `name` of its base, asked for from now on.

    RequestError if the name is taken, unless it `replaces` what has it. An adapter that replaces
    itself stays as it is.
    """
    from firefront.weights.model_store import manifest_sha256  # heavy

    staged, facts, base = prepared.staged, prepared.facts, prepared.base
    with contents.lock():
        try:
            contents.publish(staged)  # also what is there: its files may have been lost
            if replaces and (same := _found(store, account_id, base.name, name)) is not None:
                if same.sha256 == staged.sha256 and same.is_pinned == is_pinned:
                    return same
            return store.adapters.create(
                account_id,
                name=name,
                base=base.name,
                base_sha256=manifest_sha256(Path(base.path)),
                rank=facts.rank,
                targets=facts.targets,
                sha256=staged.sha256,
                template_sha256=staged.template_sha256,
                is_pinned=is_pinned,
                job_id=job_id,
                replaces=replaces,
            )
        except BaseException:
            _remove_unneeded(store, contents, staged.sha256)
            raise
        finally:
            staged.discard()


def collect(store: "Store", contents: "AdapterStore", sha256: str) -> None:
    """Remove an adapter's files unless an adapter that is not retired has them."""
    with contents.lock():
        _remove_unneeded(store, contents, sha256)


def _remove_unneeded(store: "Store", contents: "AdapterStore", sha256: str) -> None:
    if not store.adapters.is_needed(sha256):
        contents.remove(sha256)


def _found(store: "Store", account_id: str, base: str, name: str) -> "StoredAdapter | None":
    try:
        return store.adapters.find(account_id, base, name)
    except NotFoundError:
        return None
