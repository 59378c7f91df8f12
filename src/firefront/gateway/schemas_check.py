"""POST /v1/schemas:check: would this schema or grammar be honoured, and if not, what is in the way?

Runs nothing on a model. Invariant: whatever a schema holds, the answer is a 200 that says what is
wrong.
"""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.openapi import accepts
from firefront.gateway.schema_check_body import SchemaCheck
from firefront.gateway.task import Service
from firefront.text.answer_format import AnswerFormat
from firefront.text.grammar import answer_grammar
from firefront.text.schema_check import Checked, Problem, check

router = APIRouter(tags=["generate"])


@router.post(
    "/v1/schemas:check",
    summary="Check a schema or grammar",
    openapi_extra=accepts(SchemaCheck),
)
async def check_schema(request: Request) -> dict[str, Any]:
    """All that is wrong, each with its JSON pointer; if nothing is, how long it took to compile."""
    exchange = Exchange(request)
    parsed = await exchange.parse(SchemaCheck)
    constraint = parsed.constraint()
    gateway = exchange.gateway
    if parsed.model is None:
        model = gateway.any_served()
    else:
        model = gateway.served(parsed.model, account_of(request))
    checked, grammar = await asyncio.to_thread(_read, constraint)
    answer: dict[str, Any] = {
        "object": "schema.check",
        "ok": False,
        "errors": [],
        "ignored": checked.ignored,
        "model": None if model is None else model.name,
        "grammar_bytes": len((grammar or "").encode("utf-8", "surrogatepass")),
        "compile_ms": None,
        "first_mask_ms": None,
    }
    problems = checked.problems
    if grammar is not None:
        tried = None if model is None else (model.replica.name, model.renderer.tokenizer)
        verdict = await gateway.vetting.verdict(Service().account_id, grammar, tried)
        if verdict.message:
            problems = [Problem(verdict.pointer, verdict.message)]
        else:
            answer["compile_ms"] = round(verdict.compile_ms, 3)
            answer["first_mask_ms"] = round(verdict.first_mask_ms, 3)
    answer["errors"] = [{"pointer": p.pointer, "message": p.message} for p in problems]
    answer["ok"] = not problems
    return answer


def _read(constraint: Constraint) -> tuple[Checked, str | None]:
    """What can be seen of a constraint without compiling it, and its grammar if that may be
    tried."""
    checked = check(constraint.value) if constraint.kind == "json_schema" else Checked()
    if checked.problems:
        return checked, None
    try:
        return checked, answer_grammar(AnswerFormat(), constraint=constraint)
    except RequestError as error:
        message = error.message.removeprefix(f"{constraint.param}: ")
        return Checked(problems=[Problem("", message)]), None
