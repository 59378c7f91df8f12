"""Pulling models: spec in, verified files in the store out. `resolve` is what serve and LLM call.

Owns the order of things: lock, look again, fetch, verify, publish. The two ways of fetching are
`fetch_index` and `fetch_hub`. Invariant: nothing is published whose digest was not checked, and a
pull that was interrupted costs only the bytes that had not arrived.
"""

import datetime
from pathlib import Path

from firefront.core.errors import FirefrontError, ModelFileError, NotFoundError
from firefront.weights.model_store import ModelStore, StoredFile, StoredModel, folder_sha256
from firefront.weights.progress import Progress, QuietProgress
from firefront.weights.sources import (
    Entry,
    HubSource,
    IndexSource,
    LocalSource,
    Model,
    load_catalog,
    parse_spec,
)


class FetchError(FirefrontError):
    """The files could not be had or are not what they should be; nothing was published."""

    status = 502
    code = "model_fetch_failed"


def resolve(
    spec: str, *, store: ModelStore | None = None, progress: Progress | None = None
) -> Path:
    """The file or folder that `spec` names, pulled first if it is not here yet."""
    store = store or ModelStore()
    model = find(spec, store)
    if isinstance(model.source, LocalSource):
        return _local(model.source)
    return store.path(_stored(model, store) or pull(spec, store=store, progress=progress))


def find_here(spec: str) -> Path:
    """As `resolve`, but nothing is fetched: NotFoundError if it is not here."""
    store = ModelStore()
    model = find(spec, store)
    if isinstance(model.source, LocalSource):
        return _local(model.source)
    if (stored := _stored(model, store)) is None:
        raise NotFoundError(f"{spec}: is not here yet; run: firefront pull {spec}")
    return store.path(stored)


def model_name(spec: str) -> str:
    """The name that `spec` is stored and served under."""
    return find(spec, ModelStore()).name


def find(spec: str, store: ModelStore, extra: dict[str, Entry] | None = None) -> Model:
    """Resolve a spec against the catalogs and, failing these, the names in the store."""
    try:
        return parse_spec(spec, (extra or {}) | store.catalog())
    except NotFoundError:
        by_name = {m.name: m for m in store.models()}
        if (stored := by_name.get(spec)) is None:
            raise
        entry = Entry(spec=stored.spec, sha256=stored.sha256, license=stored.license)
        return parse_spec(spec, {stored.name: entry})


def pull(
    spec: str,
    *,
    catalog: Path | None = None,
    store: ModelStore | None = None,
    progress: Progress | None = None,
) -> StoredModel:
    """Fetch, verify and publish a model; returns at once if it is here. Two pulls share the work.

    `catalog` names a file whose names are registered for good. Raises FetchError, RequestError.
    """
    store = store or ModelStore()
    progress = progress or QuietProgress()
    if catalog is not None:
        store.register(load_catalog(catalog))
    model = find(spec, store)
    if isinstance(model.source, LocalSource):
        return _describe_local(model, _local(model.source))
    if (stored := _stored(model, store)) is not None:
        return stored

    def on_wait() -> None:
        progress.note(f"{model.name}: another pull is at work; waiting for it")

    with store.lock(model.name, on_wait=on_wait):
        if (stored := _stored(model, store)) is not None:
            return stored
        return _fetch(model, store, progress)


def remove(spec: str, *, store: ModelStore | None = None) -> str:
    """Delete a pulled model and what interrupted pulls of it left; returns its name."""
    store = store or ModelStore()
    model = find(spec, store)
    if isinstance(model.source, LocalSource):
        raise NotFoundError(f"{spec}: is a file of your own; delete it yourself", param="model")
    with store.lock(model.name):
        had_partial = (store.root / ".partial" / model.name).exists()
        store.discard_partial(model.name)
        if store.folder(model.name).exists() or not had_partial:
            store.remove(model.name)
    return model.name


def _stored(model: Model, store: ModelStore) -> StoredModel | None:
    """The published model, if it is what the spec asks for."""
    stored = store.get(model.name)
    if stored is None or model.entry.sha256 not in (None, stored.sha256):
        return None
    return stored


def _fetch(model: Model, store: ModelStore, progress: Progress) -> StoredModel:
    revision, license_name = None, model.entry.license
    if isinstance(model.source, IndexSource):
        from firefront.weights.fetch_index import fetch_index

        files = [fetch_index(model, model.source, store, progress)]
    else:
        from firefront.weights.fetch_hub import fetch_hub

        assert isinstance(model.source, HubSource)
        files, revision, hub_license = fetch_hub(model.source, store, model, progress)
        license_name = license_name or hub_license
    if len(files) > 1 and model.entry.sha256 not in (None, folder_sha256(files)):
        raise FetchError(
            f"{model.name}: the folder's sha256 is {folder_sha256(files)}, "
            f"expected {model.entry.sha256}; nothing was published"
        )
    staging = store.staging(model.name)
    for file in files:
        check_content(staging / file.name)
    stored = StoredModel(
        name=model.name,
        spec=model.spec,
        sha256=folder_sha256(files),
        size=sum(file.size for file in files),
        license=license_name,
        pulled=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=files,
        revision=revision,
    )
    store.publish(stored)
    return stored


def check_content(path: Path) -> None:
    """Refuse what is not what its name says: formats that can run code hide behind good names."""
    with path.open("rb") as file:
        head = file.read(16)
    if path.suffix == ".gguf" and head[:4] != b"GGUF":
        raise ModelFileError(path, "magic", "not a GGUF file", offset=0)
    if path.suffix == ".safetensors":
        header_len = int.from_bytes(head[:8], "little")
        if head[8:9] != b"{" or not 2 <= header_len <= path.stat().st_size - 8:
            raise ModelFileError(path, "header", "not a safetensors file", offset=0)


def _local(source: LocalSource) -> Path:
    path = source.path
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelFileError(
                path,
                "config.json",
                "missing; a model folder holds config.json, tokenizer.json and *.safetensors",
            )
    elif not path.is_file():
        raise NotFoundError(f"{path}: no such file or folder", param="model")
    elif path.suffix != ".gguf":
        raise ModelFileError(path, "suffix", "only .gguf files and Hugging Face folders are read")
    return path


def _describe_local(model: Model, path: Path) -> StoredModel:
    """A manifest for a file that stays where it is (names and sizes; digests are left out)."""
    paths = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    files = [StoredFile(name=p.name, sha256="", size=p.stat().st_size) for p in paths]
    return StoredModel(
        name=model.name,
        spec=model.spec,
        sha256="",
        size=sum(f.size for f in files),
        license=None,
        pulled="",
        files=files,
    )
