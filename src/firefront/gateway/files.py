"""/v1/files: uploads, as OpenAI shapes them.

Owns purposes, expiry and the words; the store keeps the contents. Invariant: an upload is a file
once all of it is on disk, else nothing is left of it.
"""

import asyncio
import re
import urllib.parse
from typing import TYPE_CHECKING, Any, BinaryIO

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from firefront.core.errors import RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.json_out import json_response
from firefront.gateway.leaving import disconnected
from firefront.gateway.openapi import answers
from firefront.gateway.paging import described, page_object, page_query
from firefront.gateway.state import Gateway

if TYPE_CHECKING:
    from firefront.store.files import File  # heavy

MAX_FILE_BYTES = 512 << 20
MAX_LIMIT = 10_000
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 30 * 24 * 3600
BATCH_EXPIRY_S = 30 * 24 * 3600  # unless the upload says something else
_PIECE_BYTES = 256 << 10
_SECONDS = re.compile("[0-9]{1,9}")
router = APIRouter(tags=["files"])
log = structlog.get_logger("firefront.files")

_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {
            "type": "integer",
            "minimum": MIN_EXPIRY_S,
            "maximum": MAX_EXPIRY_S,
        },
    },
}


@router.post(
    "/v1/files",
    summary="Upload a file",
    openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
    },
)
async def create_file(request: Request) -> Response:
    """Up to 512 MiB. Files for `batch` expire after 30 days, others when `expires_after` says."""
    gateway: Gateway = request.app.state.gateway
    gateway.admit()
    store = await gateway.ready_store()
    content = await asyncio.to_thread(store.files.incoming)
    try:
        form = await gateway.forms.read(
            request, file_field="file", sink=content, max_file_bytes=MAX_FILE_BYTES
        )
        if form.filename is None:
            raise RequestError("file: is required", param="file")
        purpose = _purpose(form.fields)
        expires_after_s = _expires_after_s(form.fields, purpose)
        await asyncio.to_thread(content.finish)
        file = await store.run(
            store.files.create,
            account_of(request),
            content,
            filename=form.filename,
            purpose=purpose,
            expires_after_s=expires_after_s,
        )
    finally:
        await asyncio.shield(asyncio.to_thread(content.discard))
    return json_response(file_object(file))


@router.get(
    "/v1/files",
    summary="List the files",
    openapi_extra=described(MAX_LIMIT, "desc", purpose="only files for this"),
)
async def list_files(request: Request) -> Response:
    """Newest first, unless `order` is asc."""
    gateway: Gateway = request.app.state.gateway
    query = page_query(
        request, default_limit=MAX_LIMIT, max_limit=MAX_LIMIT, default_order="desc"
    )
    store = await gateway.ready_store()
    page = await store.run(
        store.files.list,
        account_of(request),
        purpose=request.query_params.get("purpose") or None,
        after=query.after,
        limit=query.limit,
        order=query.order,
    )
    data = [file_object(file) for file in page.items]
    return json_response(page_object(data, has_more=page.has_more))


@router.get(
    "/v1/files/{file_id}",
    summary="Look at one file",
)
async def get_file(file_id: str, request: Request) -> Response:
    """What is known about it."""
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    file = await store.run(store.files.get, account_of(request), file_id)
    return json_response(file_object(file))


@router.delete(
    "/v1/files/{file_id}",
    summary="Delete a file",
)
async def delete_file(file_id: str, request: Request) -> Response:
    """It is gone when this answers."""
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    await store.run(store.files.delete, account_of(request), file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


@router.get(
    "/v1/files/{file_id}/content",
    summary="Download a file",
    **answers({"application/octet-stream": "The bytes that were uploaded"}),
)
async def get_content(file_id: str, request: Request) -> Response:
    """The bytes that were uploaded, as an attachment."""
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    file, content = await store.run(store.files.open, account_of(request), file_id)
    return Download(file, content, stall_limit_s=gateway.settings.stall_limit_s)


class Download(Response):
    """Sends a file piece by piece; a client that reads nothing for too long loses it."""

    media_type = "application/octet-stream"

    def __init__(self, file: "File", content: BinaryIO, *, stall_limit_s: float) -> None:
        super().__init__(
            headers={
                "content-length": str(file.num_bytes),
                "content-disposition": _attachment(file.filename),
                "content-security-policy": "sandbox; default-src 'none'",
                "cache-control": "private, no-store",
            }
        )
        self._content = content
        self._stall_limit_s = stall_limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(disconnected(Request(scope, receive)))
        head = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        try:
            await send(head)
            more = True
            while more and not gone.done():
                piece = await asyncio.to_thread(self._content.read, _PIECE_BYTES)
                more = bool(piece)
                async with asyncio.timeout(self._stall_limit_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
        except TimeoutError:
            log.warning("client does not read, connection dropped")
        finally:
            gone.cancel()
            self._content.close()


def file_object(file: "File") -> dict[str, Any]:
    """A file as OpenAI shapes it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": file.status,
        "status_details": None,
    }


def _purpose(fields: dict[str, str]) -> str:
    purpose = fields.get("purpose")
    if purpose is None:
        raise RequestError("purpose: is required", param="purpose")
    if purpose not in PURPOSES:
        raise RequestError(f"purpose: must be one of {', '.join(PURPOSES)}", param="purpose")
    return purpose


def _expires_after_s(fields: dict[str, str], purpose: str) -> int | None:
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return BATCH_EXPIRY_S if purpose == "batch" else None
    if anchor != "created_at":
        param = "expires_after.anchor"
        raise RequestError(f"{param}: must be created_at", param=param)
    if seconds is None or not _SECONDS.fullmatch(seconds):
        number = -1
    else:
        number = int(seconds)
    if not MIN_EXPIRY_S <= number <= MAX_EXPIRY_S:
        param = "expires_after.seconds"
        raise RequestError(
            f"{param}: must be a number from {MIN_EXPIRY_S} to {MAX_EXPIRY_S}", param=param
        )
    return number


def _attachment(filename: str) -> str:
    quoted = urllib.parse.quote(filename, safe="")
    plain = filename.isascii() and not set(filename) & {'"', "\\", "%"}
    named = f'filename="{filename}"' if plain else f"filename*=UTF-8''{quoted}"
    return f"attachment; {named}"
