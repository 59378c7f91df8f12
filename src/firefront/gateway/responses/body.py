"""The body of POST /v1/responses, and what it asks for as a ChatTask.

Owns the meaning of each field but the items', which are `items`' business. Fields of ours that
chat has too (seed, top_k, structured_outputs, ...) mean the same here.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from firefront.core.chat import Constraint, Thinking
from firefront.core.errors import RequestError
from firefront.core.sampling import MAX_LOGPROBS
from firefront.core.tools import read_tools
from firefront.gateway.chat_body import template_kwargs, thinking_of_effort
from firefront.gateway.constraints import constraint_of, response_format
from firefront.gateway.fields import GenerationRequest, doc, sampling_of
from firefront.gateway.metadata import checked_metadata
from firefront.gateway.responses.items import chat_messages
from firefront.gateway.schemas import Refusal, given
from firefront.gateway.task import ChatTask, FieldNames
from firefront.gateway.tool_fields import read_tool_choice

NAMES = FieldNames(messages="input", max_tokens="max_output_tokens")
LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (
    LOGPROBS,
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
_FORMATS = ("text", "json_object", "json_schema")
Summary = Literal["auto", "concise", "detailed"]


class ReasoningOptions(msgspec.Struct, kw_only=True):
    """How a reasoning model thinks, and where its thought is told."""

    effort: Annotated[str | None, doc("none to max")] = None
    summary: Annotated[
        Summary | None, doc("given: the thought is the item's summary, else its content")
    ] = None
    generate_summary: Annotated[Summary | None, doc("older name of summary")] = None


class TextOptions(msgspec.Struct, kw_only=True):
    """What the text of an answer looks like."""

    format: Annotated[
        dict[str, Any] | None, doc("type text, json_object or json_schema (name, schema, strict)")
    ] = None
    verbosity: Annotated[
        Literal["low", "medium", "high"] | None, doc("accepted; the model is not told")
    ] = None


class ConversationParam(msgspec.Struct, kw_only=True):
    """A conversation by its id."""

    id: str


class ResponsesRequest(GenerationRequest, kw_only=True):
    """POST /v1/responses."""

    nested: ClassVar[dict[str, type[msgspec.Struct]]] = {
        "reasoning": ReasoningOptions,
        "text": TextOptions,
    }
    refused: ClassVar[dict[str, Refusal]] = {
        "prompt": (given, "is not supported; send instructions and input"),
    }

    # Only here it may be left out.
    model: Annotated[str | None, doc("not needed where one is served")] = None  # type: ignore[assignment]
    input: Annotated[
        str | list[dict[str, Any]] | None,
        doc("text, or items: message, function_call, function_call_output, reasoning"),
    ] = None
    instructions: Annotated[str | None, doc("the system message, for this response only")] = None
    max_output_tokens: Annotated[int | None, doc("most tokens to generate, thought too")] = None
    max_tool_calls: Annotated[int | None, doc("of built-in tools, of which there are none")] = None
    previous_response_id: Annotated[str | None, doc("a stored response to go on from")] = None
    conversation: Annotated[
        str | ConversationParam | None, doc("a conversation to go on with; it gets what is said")
    ] = None
    parallel_tool_calls: Annotated[bool | None, doc("false: at most one call a response")] = None
    reasoning: ReasoningOptions | None = None
    include: Annotated[list[str] | None, doc(f"{LOGPROBS}: log-probabilities")] = None
    store: Annotated[bool | None, doc("keep it; true if absent")] = None
    background: Annotated[bool | None, doc("answer at once, generate on; needs store")] = None
    text: TextOptions | None = None
    tools: Annotated[list[dict[str, Any]] | None, doc("functions the model may call")] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | dict[str, Any] | None,
        doc("whether a tool is called; a function object: that one"),
    ] = None
    top_logprobs: Annotated[int | None, doc("log-probabilities of the likeliest, up to 20")] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None, doc("auto: drop the oldest turns that do not fit")
    ] = None
    prompt_cache_retention: Annotated[
        Literal["in_memory", "24h"] | None, doc("accepted: prefixes stay as long as there is room")
    ] = None
    prompt_cache_options: Annotated[dict[str, Any] | None, doc("accepted")] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, doc("values for the template")] = None

    @property
    def conversation_id(self) -> str | None:
        given = self.conversation
        return given.id if isinstance(given, ConversationParam) else given

    @property
    def is_stored(self) -> bool:
        return self.store is not False

    @property
    def tells_summary(self) -> bool:
        """Whether a thought is told as a summary."""
        asked = self.reasoning
        return asked is not None and (asked.summary or asked.generate_summary) is not None

    def unused(self) -> list[str]:
        """What is given and changes nothing, though a client may think it does."""
        is_verbose = self.text is not None and self.text.verbosity is not None
        return ["text.verbosity"] if is_verbose else []


def check(request: ResponsesRequest) -> None:
    """Refuse what has no meaning here, before anything is looked up."""
    for name, refuses, why in (
        ("n", request.n not in (None, 1), "a response is one answer; send a request for each"),
        ("max_tokens", request.max_tokens is not None, "is called max_output_tokens here"),
        ("return_token_ids", bool(request.return_token_ids), "only on chat and completions"),
    ):
        if refuses:
            raise RequestError(f"{name}: {why}", param=name, code="unsupported_parameter")
    if request.background and not request.is_stored:
        raise RequestError("background: needs store to be true", param="background")
    if request.conversation is not None and request.previous_response_id is not None:
        raise RequestError(
            "conversation: previous_response_id is there already; send one", param="conversation"
        )
    _within("max_output_tokens", request.max_output_tokens, 1, 2**31 - 1)
    _within("max_tool_calls", request.max_tool_calls, 1, 2**31 - 1)
    _within("top_logprobs", request.top_logprobs, 0, MAX_LOGPROBS)
    for i, name in enumerate(request.include or ()):
        if name not in _INCLUDABLE:
            where = f"include[{i}]"
            raise RequestError(f"{where}: must be one of {', '.join(_INCLUDABLE)}", param=where)
    checked_metadata(request.metadata)


def response_task(
    request: ResponsesRequest,
    history: Sequence[dict[str, Any]],
    items: Sequence[dict[str, Any]],
) -> ChatTask:
    """What the body asks for; RequestError names the field at fault.

    `history`: the items of the conversation before, `items`: those of the input, both normal.
    """
    tools = read_tools(request.tools)
    return ChatTask(
        messages=chat_messages(request.instructions, history, items),
        sampling=sampling_of(
            request,
            logprobs=_logprobs(request),
            prompt_logprobs=None,
            max_tokens=request.max_output_tokens,
        ),
        tools=tools,
        tool_choice=read_tool_choice(request.tool_choice, tools),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        constraint=_constraint(request),
        thinking=_thinking(request.reasoning),
        template_kwargs=template_kwargs(request.chat_template_kwargs),
        overflow="truncate" if _truncates(request) else "error",
        max_prompt_tokens=request.max_prompt_tokens(),
        names=NAMES,
    )


def text_format(request: ResponsesRequest) -> dict[str, Any]:
    """The format of the text as the response repeats it; RequestError for one that is wrong."""
    asked = request.text.format if request.text is not None else None
    if asked is None:
        return {"type": "text"}
    where, kind = "text.format", asked.get("type")
    if kind not in _FORMATS:
        raise RequestError(
            f"{where}.type: must be one of {', '.join(_FORMATS)}", param=f"{where}.type"
        )
    if kind != "json_schema":
        return {"type": kind}
    for name, types in (
        ("schema", dict),
        ("name", str | None),
        ("description", str | None),
        ("strict", bool | None),
    ):
        if not isinstance(asked.get(name), types):
            what = "a JSON Schema, an object" if name == "schema" else "of another type"
            raise RequestError(f"{where}.{name}: must be {what}", param=f"{where}.{name}")
    return {
        "type": kind,
        "name": asked.get("name") or "answer",
        "description": asked.get("description"),
        "schema": asked["schema"],
        "strict": asked.get("strict") is not False,
    }


def _constraint(request: ResponsesRequest) -> Constraint | None:
    of_text = response_format(text_format(request), "text.format")
    other = constraint_of(request)
    if of_text is not None and other is not None:
        raise RequestError(
            f"{other.param}: text.format constrains the answer already; send one of them",
            param=other.param,
        )
    return of_text or other


def _thinking(asked: ReasoningOptions | None) -> Thinking:
    if asked is None or asked.effort is None:
        return Thinking()
    return thinking_of_effort(asked.effort, "reasoning.effort")


def _logprobs(request: ResponsesRequest) -> int | None:
    if request.top_logprobs or LOGPROBS in (request.include or ()):
        return request.top_logprobs or 0
    return None


def _truncates(request: ResponsesRequest) -> bool:
    behavior = request.context_length_exceeded_behavior
    return request.truncation == "auto" or (request.truncation is None and behavior == "truncate")


def _within(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise RequestError(f"{name}: must be between {low} and {high}, got {value}", param=name)
