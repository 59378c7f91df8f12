"""Fetching from a repository in the layout of the Hugging Face hub, over plain HTTPS.

Owns the choice of files, resuming by HTTP range and where the token may go: HF_TOKEN is sent to
HF_ENDPOINT's own origin and never along a redirect elsewhere. Pickles and code are never fetched.
Invariant: all files are of one commit, and each is checked against the digest the hub states.
"""

import fnmatch
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from firefront.core.disk import sync_folder
from firefront.core.errors import NotFoundError, RequestError
from firefront.weights.fetch import FetchError
from firefront.weights.model_store import ModelStore, StoredFile, write_durably
from firefront.weights.progress import Progress, Task
from firefront.weights.sources import HubSource, Model, check_relative_path

DEFAULT_ENDPOINT = "https://huggingface.co"
FOLDER_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "model.safetensors.index.json",
        "LICENSE",
        "LICENSE.txt",
        "LICENSE.md",
    }
)
MAX_LISTING_BYTES = 16 << 20
MAX_REDIRECTS = 5
NUM_TRIES = 6
_CHUNK_BYTES = 1 << 20
_Result = TypeVar("_Result")


class _Blob(msgspec.Struct):
    sha256: str
    size: int


class _File(msgspec.Struct):
    """One file of the listing: `lfs` for large files, else `blobId`, git's SHA-1 of the content."""

    rfilename: str
    size: int | None = None
    blobId: str | None = None  # noqa: N815 - the hub's name
    lfs: _Blob | None = None


class _Listing(msgspec.Struct):
    sha: str
    siblings: list[_File]
    cardData: dict[str, Any] | None = None  # noqa: N815 - the hub's name


class Hub:
    """A connection to HF_ENDPOINT; use as a context manager."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._url = httpx2.URL(self.endpoint)
        self._token = token or os.environ.get("HF_TOKEN")
        if self._url.scheme not in ("https", "http") or not self._url.host:
            raise RequestError(f"HF_ENDPOINT={self.endpoint}: must be an http(s) address")
        timeout = httpx2.Timeout(30.0, read=60.0)
        self._client = httpx2.Client(follow_redirects=False, timeout=timeout)

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def open(self, url: httpx2.URL, headers: dict[str, str]) -> httpx2.Response:
        """GET with our own redirects: the token stays home, and https never becomes http."""
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if self._token and _origin(url) == _origin(self._url):
                sent["Authorization"] = f"Bearer {self._token}"
            request = self._client.build_request("GET", url, headers=sent)
            response = self._client.send(request, stream=True)
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            target = url.join(response.headers.get("Location", ""))
            response.close()
            if target.scheme not in ("https", self._url.scheme):
                raise FetchError(f"{self.endpoint}: redirects to {target.scheme}:, refused")
            url = target
        raise FetchError(f"{self.endpoint}: more than {MAX_REDIRECTS} redirects")

    def url(self, path: str, query: str = "") -> httpx2.URL:
        return httpx2.URL(f"{self.endpoint}/{quote(path)}{query}")


def fetch_hub(
    source: HubSource, store: ModelStore, model: Model, progress: Progress
) -> tuple[list[StoredFile], str, str | None]:
    """Fetch into the staging folder; returns (files, commit, license). Resumes what is there."""
    with Hub() as hub:
        listing = _list(hub, source)
        chosen = choose_files(listing.siblings, source)
        _start_over_if_moved(store, model.name, listing.sha)
        staging = store.staging(model.name)
        files = []
        sizes = [_size(file) for file in chosen]
        total = None if None in sizes else sum(size for size in sizes if size is not None)
        with progress.task(f"{model.name}: downloading", total) as task:
            for file in chosen:
                name = file.rfilename.rsplit("/", 1)[-1]
                url = hub.url(f"{source.org}/{source.name}/resolve/{listing.sha}/{file.rfilename}")
                files.append(_fetch_file(hub, url, file, staging / name, model, task))
    license_name = (listing.cardData or {}).get("license")
    return files, listing.sha, license_name if isinstance(license_name, str) else None


def choose_files(siblings: list[_File], source: HubSource) -> list[_File]:
    """The files needed and no others: one GGUF, or safetensors with their JSON and tokenizer."""
    where = f"hf:{source.org}/{source.name}"
    by_name = {file.rfilename: file for file in siblings}
    ggufs = sorted(name for name in by_name if name.endswith(".gguf"))
    if source.file is not None:
        if source.file not in by_name:
            raise NotFoundError(
                f"{where}: has no file {source.file}; it has: {', '.join(ggufs) or 'no .gguf'}",
                param="model",
            )
        return [by_name[source.file]]
    weights = [
        name
        for name in by_name
        if fnmatch.fnmatchcase(name, "model*.safetensors") and "/" not in name
    ]
    if weights and "config.json" in by_name:
        names = sorted(weights + [name for name in by_name if name in FOLDER_FILES])
        return [by_name[check_relative_path(name, where)] for name in names]
    if len(ggufs) == 1:
        check_relative_path(ggufs[0], where)
        return [by_name[ggufs[0]]]
    if ggufs:
        raise RequestError(
            f"{where}: holds several models; name one as {where}:FILE: {', '.join(ggufs)}",
            param="model",
        )
    raise RequestError(
        f"{where}: has neither safetensors nor GGUF; pickled weights (.bin, .pt) can run code when "
        "opened and are never fetched. Look for a repository with a converted copy",
        param="model",
    )


def _list(hub: Hub, source: HubSource) -> _Listing:
    where = f"hf:{source.org}/{source.name}"

    def attempt() -> _Listing:
        url = hub.url(f"api/models/{source.org}/{source.name}/revision/main", "?blobs=true")
        response = hub.open(url, {})
        try:
            _check_status(response, where)
            body = b""
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_LISTING_BYTES:
                    raise FetchError(f"{where}: the list of files is too long")
        finally:
            response.close()
        try:
            listing = msgspec.json.decode(body, type=_Listing)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise FetchError(
                f"{where}: {hub.endpoint} answered no list of files: {error}"
            ) from None
        if not listing.sha.isalnum():
            raise FetchError(f"{where}: {hub.endpoint} named no commit")
        return listing

    return _with_retries(attempt, where)


def _fetch_file(
    hub: Hub, url: httpx2.URL, file: _File, target: Path, model: Model, task: Task
) -> StoredFile:
    """Fetch one file, resuming `target`.partial; a finished `target` is only hashed again."""
    where = f"{model.name}: {file.rfilename}"
    partial = target.with_name(target.name + ".partial")
    if target.exists():
        os.replace(target, partial)
    have = partial.stat().st_size if partial.exists() else 0
    task.advance(have)
    size = _size(file)

    def attempt() -> None:
        nonlocal have
        if size is not None and have == size:
            return
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        response = hub.open(url, headers)
        try:
            if response.status_code == 416 and have:
                task.advance(-have)
                have = 0
                raise httpx2.ReadError("the server refuses to resume")
            _check_status(response, where)
            if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                task.advance(-have)
                have = 0  # the server sends all of it again
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, 0o600), "r+b") as output:
                output.truncate(have)
                output.seek(have)
                for chunk in response.iter_raw():
                    output.write(chunk)
                    have += len(chunk)
                    task.advance(len(chunk))
                    if size is not None and have > size:
                        raise FetchError(f"{where}: is longer than the {size} bytes announced")
                output.flush()
                os.fsync(output.fileno())
        finally:
            response.close()
        if size is not None and have < size:
            raise httpx2.ReadError(f"ended at byte {have} of {size}")

    _with_retries(attempt, where)
    sha256 = _verify(partial, file, model, where)
    os.replace(partial, target)
    sync_folder(target.parent)
    return StoredFile(name=target.name, sha256=sha256, size=have)


def _verify(partial: Path, file: _File, model: Model, where: str) -> str:
    """Check the digest the hub states and the one the spec pins; a wrong file is deleted."""
    sha256, git_sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    git_sha1.update(f"blob {partial.stat().st_size}\0".encode())
    with partial.open("rb") as content:
        while chunk := content.read(4 << 20):
            sha256.update(chunk)
            if file.lfs is None:
                git_sha1.update(chunk)
    expected = [(sha256.hexdigest(), file.lfs.sha256)] if file.lfs is not None else []
    if file.lfs is None and file.blobId is not None:
        expected.append((git_sha1.hexdigest(), file.blobId))
    if model.entry.sha256 is not None and file.rfilename.endswith(".gguf"):
        expected.append((sha256.hexdigest(), model.entry.sha256))
    for actual, wanted in expected:
        if actual != wanted:
            partial.unlink()
            raise FetchError(
                f"{where}: digest is {actual}, expected {wanted}; nothing was published. "
                "If a second pull ends the same way, the server's file is another one"
            )
    return sha256.hexdigest()


def _start_over_if_moved(store: ModelStore, name: str, commit: str) -> None:
    """Partial files of another commit are thrown away."""
    marker = store.partial(name) / "commit"
    if marker.exists() and marker.read_text() == commit:
        return
    store.discard_partial(name)
    write_durably(store.partial(name) / "commit", commit.encode())


def _with_retries(attempt: Callable[[], _Result], where: str) -> _Result:
    for i in range(NUM_TRIES):
        try:
            return attempt()
        except httpx2.TransportError as error:
            if i == NUM_TRIES - 1:
                raise FetchError(
                    f"{where}: {type(error).__name__}: {error}. Check the network; pulling again "
                    "goes on where this stopped"
                ) from None
            time.sleep(min(0.25 * 2**i, 8.0))
    raise AssertionError


def _check_status(response: httpx2.Response, where: str) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in (401, 403):
        raise FetchError(
            f"{where}: refused ({status}); gated or private models need HF_TOKEN set to "
            "a token that may read them"
        )
    if status == 404:
        raise NotFoundError(f"{where}: not found; check the spelling", param="model")
    if status == 429 or status >= 500:
        raise httpx2.ReadError(f"status {status}")
    raise FetchError(f"{where}: unexpected status {status}")


def _size(file: _File) -> int | None:
    return file.lfs.size if file.lfs is not None else file.size


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
