"""The Response object: what a request asked for, repeated, around what came of it.

Knows the fields' names and their order, nothing of how an answer is generated, sent or stored.
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from firefront.core.errors import FirefrontError, OverloadedError, RequestError
from firefront.gateway.generate import Generation
from firefront.gateway.responses.body import ResponsesRequest, text_format
from firefront.gateway.task import ChatTask

Json = dict[str, Any]
# The tiers that requests are really served in, by those they ask for.
_TIERS = {"priority": "priority", "flex": "flex", "batch": "flex"}


def new_stem() -> str:
    """What a response's id and those of its items have in common, and no other's."""
    return secrets.token_hex(16)


class Envelope:
    """Words the response to one request. `stem` makes its id."""

    def __init__(
        self, request: ResponsesRequest, task: ChatTask, *, model: str, stem: str
    ) -> None:
        self.id = f"resp_{stem}"
        self.created_at = int(time.time())
        self.model = model
        self.conversation_id = request.conversation_id
        self.previous_response_id = request.previous_response_id
        self.metadata = dict(request.metadata or {})
        self._asked = _asked(request, task)

    def response(
        self,
        status: str,
        output: Sequence[Json] = (),
        *,
        usage: Json | None = None,
        error: FirefrontError | None = None,
        **more: Any,
    ) -> Json:
        """The response in one state of its life; `more` is added to it as it is."""
        is_cut = status == "incomplete"
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None if error is None else response_error(error),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "model": self.model,
            "output": list(output),
            **self._asked,
            "usage": usage,
            "metadata": self.metadata,
            **more,
        }


def _asked(request: ResponsesRequest, task: ChatTask) -> Json:
    """The request's settings, with what stands for those that it left out."""
    reasoning, text = request.reasoning, request.text
    conversation_id = request.conversation_id
    return {
        "background": bool(request.background),
        "conversation": None if conversation_id is None else {"id": conversation_id},
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "parallel_tool_calls": task.parallel_tool_calls,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": _TIERS.get(request.service_tier or "", "default"),
        "store": request.is_stored,
        "temperature": task.sampling.temperature,
        "text": {
            "format": text_format(request),
            "verbosity": (text.verbosity if text else None) or "medium",
        },
        "tool_choice": _tool_choice(request, task),
        "tools": [_tool(tool) for tool in task.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": task.sampling.top_p,
        "truncation": "auto" if task.overflow == "truncate" else "disabled",
        "user": request.user,
    }


def _tool(tool: Any) -> Json:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _tool_choice(request: ResponsesRequest, task: ChatTask) -> Json | str:
    given, choice = request.tool_choice, task.tool_choice
    if not isinstance(given, dict):
        return given or "auto"
    functions = [{"type": "function", "name": name} for name in choice.names]
    if given.get("type") == "allowed_tools":
        return {"type": "allowed_tools", "mode": choice.mode, "tools": functions}
    return functions[0]


def usage_of(generation: Generation) -> Json:
    """The tokens of a response, so far or finished."""
    usage = generation.usage()
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage["total_tokens"],
    }


def response_error(error: FirefrontError) -> Json:
    """An error as a response carries it: in one of the few codes that OpenAI has for that."""
    code = "server_error"
    if isinstance(error, OverloadedError):
        code = "rate_limit_exceeded"
    elif isinstance(error, RequestError):
        code = "invalid_prompt"
    return {"code": code, "message": error.message}
