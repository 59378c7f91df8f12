"""POST and GET /v1/chat/completions/{id}/feedback: what somebody thinks of a stored answer.

Owns the words and what a score may be; the store keeps one a completion.
"""

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import NotFoundError, RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.fields import doc
from firefront.gateway.json_out import json_response
from firefront.gateway.openapi import accepts
from firefront.gateway.state import Gateway
from firefront.tuning.conversation import read_messages

if TYPE_CHECKING:
    from firefront.store.completions import Completion  # heavy
    from firefront.store.feedback import Feedback

MAX_COMMENT_CHARS = 16_384
router = APIRouter(tags=["stored completions"])


class FeedbackRequest(msgspec.Struct, kw_only=True):
    """POST /v1/chat/completions/{completion_id}/feedback; at least one of the first three."""

    score: Annotated[float | None, doc("from 0 (bad) to 1 (good); -1 is kept as 0")] = None
    comment: Annotated[str | None, doc("why; it is not trained on")] = None
    corrected: Annotated[
        str | dict[str, Any] | None,
        doc("what the answer should have been: text, or an assistant message"),
    ] = None
    choice: Annotated[int, doc("index of the choice that is meant")] = 0


@router.post(
    "/v1/chat/completions/{completion_id}/feedback",
    summary="Say what you think of a stored completion",
    openapi_extra=accepts(FeedbackRequest),
)
async def set_feedback(completion_id: str, request: Request) -> Response:
    """A score, a comment, a corrected answer; it replaces what was said before."""
    exchange = Exchange(request)
    given = await exchange.parse(FeedbackRequest)
    if given.score is None and given.comment is None and given.corrected is None:
        raise RequestError("score: give score, comment or corrected", param="score")
    if given.comment is not None and len(given.comment) > MAX_COMMENT_CHARS:
        raise RequestError(
            f"comment: may have at most {MAX_COMMENT_CHARS} characters", param="comment"
        )
    account_id = account_of(request)
    store = await exchange.gateway.ready_store()
    completion = await store.run(store.completions.get, account_id, completion_id)
    if not 0 <= given.choice < len(completion.answer.get("choices") or ()):
        raise RequestError("choice: the completion has no such choice", param="choice")
    feedback = await store.run(
        store.feedback.set,
        account_id,
        completion_id,
        choice=given.choice,
        score=_score(given.score),
        comment=given.comment,
        corrected=_corrected(given.corrected, completion),
    )
    return json_response(_object(feedback), headers=exchange.headers)


@router.get(
    "/v1/chat/completions/{completion_id}/feedback",
    summary="Look at the feedback on a stored completion",
)
async def get_feedback(completion_id: str, request: Request) -> Response:
    """What was said of it last."""
    gateway: Gateway = request.app.state.gateway
    account_id = account_of(request)
    store = await gateway.ready_store()
    await store.run(store.completions.get, account_id, completion_id)
    found = await store.run(store.feedback.of, account_id, [completion_id])
    if completion_id not in found:
        raise NotFoundError(f"completion {completion_id}: has no feedback", code="not_found")
    return json_response(_object(found[completion_id]))


def _object(feedback: "Feedback") -> dict[str, Any]:
    return {"object": "chat.completion.feedback", **msgspec.structs.asdict(feedback)}


def _score(given: float | None) -> float | None:
    if given is None or given == -1:
        return None if given is None else 0.0
    if not (math.isfinite(given) and 0 <= given <= 1):
        raise RequestError("score: must be from 0 to 1, or -1", param="score")
    return given


def _corrected(given: Any, completion: "Completion") -> dict[str, Any] | None:
    """The assistant message, as a row of a data set may hold it."""
    if given is None:
        return None
    if isinstance(given, str):
        given = {"content": given}
    if not given.get("content") and not given.get("tool_calls"):
        raise RequestError("corrected: needs content or tool_calls", param="corrected")
    tools = completion.request.get("tools") or completion.request.get("functions")
    names = {(tool.get("function") or tool).get("name") for tool in tools} if tools else None
    try:
        (message,) = read_messages([{"role": "assistant", **given}], "corrected", names)
    except RequestError as error:
        where = error.message.replace("corrected[0]", "corrected", 1)
        raise RequestError(where, param="corrected") from None
    if message["role"] != "assistant":
        raise RequestError("corrected.role: must be assistant", param="corrected.role")
    return {key: value for key, value in message.items() if key != "weight"}
