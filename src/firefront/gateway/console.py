"""The console: the web app that `console/` builds, served at `/`.

Owns its files, read and gzipped when they are first asked for, and the policy that keeps it to this
origin. Knows nothing of what the app does. Invariant: a file in `assets/` has its content's hash in
its name, so browsers keep it for good; the page itself is asked for each time.
"""

import asyncio
import functools
import gzip
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import NotFoundError

router = APIRouter(include_in_schema=False)
BUILT = Path(__file__).with_name("static") / "console"
ROOMS = ("/", "/compare", "/completion")  # as in console/src/router.tsx
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_ASSET_HEADERS = {"cache-control": "public, max-age=31536000, immutable"}
_UNBUILT = """<!doctype html><title>firefront</title>
<p>The console is not built. In a checkout: <code>make console</code>.
<p>The API is at <code>/v1</code>, <a href="/docs">described here</a>."""


@dataclass(frozen=True)
class _File:
    content: bytes
    packed: bytes
    media_type: str


@functools.cache
def _file(path: Path) -> _File:
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(content, gzip.compress(content, mtime=0), media_type)


@functools.cache
def _paths() -> dict[str, Path]:
    """The built files by their path below BUILT; empty where the console is not built."""
    return {path.relative_to(BUILT).as_posix(): path for path in BUILT.rglob("*") if path.is_file()}


async def _send(request: Request, path: Path, headers: dict[str, str]) -> Response:
    file = await asyncio.to_thread(_file, path)
    headers = {**headers, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(file.packed, media_type=file.media_type, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


async def _page(request: Request) -> Response:
    path = _paths().get("index.html")
    if path is None:
        return Response(_UNBUILT, media_type="text/html", headers=_PAGE_HEADERS)
    return await _send(request, path, _PAGE_HEADERS)


for _room in ROOMS:
    router.add_api_route(_room, _page, methods=["GET", "HEAD"])


@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
async def _asset(name: str, request: Request) -> Response:
    path = _paths().get(f"assets/{name}")
    if path is None:
        raise NotFoundError(f"/assets/{name}: there is no such file; reload the page")
    return await _send(request, path, _ASSET_HEADERS)
