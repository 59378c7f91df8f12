"""POST /v1/chat/completions:dataset: stored completions, filtered, as a file for tuning.

Owns the filters and the writing; `tuning/traffic.py` makes the rows. Invariant: the file is there
with all its rows, or not at all.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import NotFoundError, RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.fields import doc
from firefront.gateway.files import MAX_FILE_BYTES, file_object
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import checked_metadata
from firefront.gateway.openapi import accepts
from firefront.tuning.rows import kind_of
from firefront.tuning.traffic import Json, Logged, Pairs, supervised_row, tools_succeeded

if TYPE_CHECKING:
    from firefront.store.completions import Completion  # heavy
    from firefront.store.feedback import Feedback
    from firefront.store.files import File
    from firefront.store.store import Store

MAX_COMPLETIONS = 100_000
DEFAULT_LIMIT = 10_000
_PAGE = 100
_MAX_REASONS = 20
router = APIRouter(tags=["stored completions"])


class DatasetRequest(msgspec.Struct, kw_only=True):
    """POST /v1/chat/completions:dataset; all filters must be met."""

    method: Annotated[
        Literal["supervised", "preference"],
        doc("chat rows, or pairs of a better and a worse answer to the same input"),
    ] = "supervised"
    model: Annotated[str | None, doc("only answers of this model")] = None
    metadata: Annotated[dict[str, str] | None, doc("only with all these pairs")] = None
    min_score: Annotated[float | None, doc("only with feedback of at least this score")] = None
    max_score: Annotated[float | None, doc("only with feedback of at most this score")] = None
    tool_success: Annotated[
        bool | None, doc("only where tools were called and it went well; false: went wrong")
    ] = None
    corrected: Annotated[bool | None, doc("only with a corrected answer; false: without")] = None
    created_after: Annotated[int | None, doc("Unix seconds; from then on")] = None
    created_before: Annotated[int | None, doc("Unix seconds; before then")] = None
    limit: Annotated[int, doc(f"most completions to look at, up to {MAX_COMPLETIONS}")] = (
        DEFAULT_LIMIT
    )
    filename: Annotated[str | None, doc("what the file is called")] = None


@router.post(
    "/v1/chat/completions:dataset",
    summary="Make a data set of stored completions",
    openapi_extra=accepts(DatasetRequest),
)
async def create_dataset(request: Request) -> Response:
    """A file of purpose fine-tune, newest completions first; a corrected answer stands in for the
    given one. `dataset` says how many rows it has, and what was left out and why."""
    exchange = Exchange(request)
    wanted = await exchange.parse(DatasetRequest)
    store = await exchange.gateway.ready_store()
    file, summary = await make_dataset(store, account_of(request), wanted)
    answer = {**file_object(file), "dataset": summary}
    return json_response(answer, headers=exchange.headers)


async def make_dataset(
    store: "Store", account_id: str, wanted: DatasetRequest, *, id: str | None = None
) -> "tuple[File, Json]":
    """The file, called `id` if that is given, and how many rows it has of how many completions.
    RequestError if there would be no row in it."""
    check_dataset(wanted)
    work = _Work(wanted)
    content = await asyncio.to_thread(store.files.incoming)
    try:
        async for page in _pages(store, account_id, wanted):
            await asyncio.to_thread(_write, content, work.rows(page))
        await asyncio.to_thread(_write, content, work.rest())
        if work.num_rows == 0:
            raise RequestError(f"no stored completion makes a row: {work.reasons()}")
        await asyncio.to_thread(content.finish)
        file = await store.run(
            store.files.create,
            account_id,
            content,
            id=id,
            filename=wanted.filename or f"completions-{int(time.time())}.jsonl",
            purpose="fine-tune",
        )
    finally:
        await asyncio.shield(asyncio.to_thread(content.discard))
    return file, work.summary()


class _Work:
    """From completions to rows, with counts of both."""

    def __init__(self, wanted: DatasetRequest) -> None:
        self._wanted = wanted
        self._pairs = Pairs()
        self._left_out: Counter[str] = Counter()
        self.num_seen = self.num_rows = 0

    def rows(self, page: "list[tuple[Completion, Feedback | None]]") -> Iterator[Json]:
        for completion, feedback in page:
            self.num_seen += 1
            row = self._row(_logged(completion, feedback))
            if row is not None:
                self.num_rows += 1
                yield row

    def rest(self) -> Iterator[Json]:
        for row in self._pairs.rest():
            self.num_rows += 1
            yield row

    def summary(self) -> Json:
        left_out = (self._left_out + self._pairs.left_out).most_common(_MAX_REASONS)
        return {
            "method": self._wanted.method,
            "completions": self.num_seen,
            "rows": self.num_rows,
            "left_out": [{"reason": reason, "completions": num} for reason, num in left_out],
        }

    def reasons(self) -> str:
        left_out = self.summary()["left_out"]
        told = [f"{entry['completions']} x {entry['reason']}" for entry in left_out[:3]]
        return "; ".join(told) or "none fits the filters (is `store` true in the requests?)"

    def _row(self, logged: Logged) -> Json | None:
        wanted = self._wanted
        try:
            if wanted.tool_success is not None and tools_succeeded(logged) != wanted.tool_success:
                raise RequestError(f"tool_success is not {wanted.tool_success}".lower())
            if wanted.corrected is not None and wanted.corrected != bool(logged.corrected):
                raise RequestError(f"corrected is not {wanted.corrected}".lower())
            if wanted.method == "supervised":
                return supervised_row(logged)
        except RequestError as error:
            self._left_out[kind_of(error.message)] += 1
            return None
        return self._pairs.add(logged)


async def _pages(
    store: "Store", account_id: str, wanted: DatasetRequest
) -> "AsyncIterator[list[tuple[Completion, Feedback | None]]]":
    """Completions that meet the filters of the store, newest first, with their feedback."""
    num_left, after = wanted.limit, None
    while num_left > 0:
        try:
            page = await store.run(
                store.completions.list,
                account_id,
                model=wanted.model,
                metadata=wanted.metadata,
                created=(wanted.created_after, wanted.created_before),
                score=(wanted.min_score, wanted.max_score),
                after=after,
                limit=min(_PAGE, num_left),
                order="desc",
            )
        except NotFoundError:
            raise RequestError("completions were deleted meanwhile; try again") from None
        ids = [completion.id for completion in page.items]
        feedback = await store.run(store.feedback.of, account_id, ids)
        yield [(completion, feedback.get(completion.id)) for completion in page.items]
        num_left -= len(ids)
        if not page.has_more:
            return
        after = ids[-1]


def _write(content: Any, rows: Iterator[Json]) -> None:
    for row in rows:
        content.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        if content.num_bytes > MAX_FILE_BYTES:
            raise RequestError(f"limit: the file has over {MAX_FILE_BYTES >> 20} MiB")


def _logged(completion: "Completion", feedback: "Feedback | None") -> Logged:
    if feedback is None:
        return Logged(completion.request, completion.answer)
    return Logged(
        completion.request,
        completion.answer,
        choice=feedback.choice,
        score=feedback.score,
        corrected=feedback.corrected,
    )


def check_dataset(wanted: DatasetRequest) -> None:
    """RequestError names the filter at fault."""
    checked_metadata(wanted.metadata)
    if not 1 <= wanted.limit <= MAX_COMPLETIONS:
        raise RequestError(f"limit: must be from 1 to {MAX_COMPLETIONS}", param="limit")
    if wanted.filename is not None and not 0 < len(wanted.filename) <= 200:
        raise RequestError("filename: must have 1 to 200 characters", param="filename")
    for name in ("created_after", "created_before"):
        value = getattr(wanted, name)
        if value is not None and not 0 <= value < 2**53:
            raise RequestError(f"{name}: must be a time in Unix seconds", param=name)
