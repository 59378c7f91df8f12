"""The bodies of POST /v1/messages and /v1/messages/count_tokens, read into a ChatTask.

Owns the meaning of each field but the conversation's, which `content` reads; ranges are
SamplingParams' business. `cache_control` is accepted anywhere: every prefix is cached anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.core.sampling import SamplingParams
from firefront.core.tools import read_tools
from firefront.gateway.anthropic.content import MessageParam, read_messages, read_system
from firefront.gateway.fields import doc
from firefront.gateway.schemas import Refusal
from firefront.gateway.task import ChatTask

_PARAMETERS = (".function.parameters", ".input_schema")  # OpenAI's name and theirs
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class ToolParam(msgspec.Struct, kw_only=True):
    """A tool that the client runs."""

    name: str
    description: str | None = None
    input_schema: Annotated[dict[str, Any] | None, doc("the JSON Schema of its input")] = None
    type: Annotated[str | None, doc("custom")] = None
    strict: Annotated[bool | None, doc("true: the input always matches the schema")] = None
    defer_loading: Annotated[bool | None, doc("accepted: all tools are shown at once")] = None
    cache_control: dict[str, Any] | None = None
    eager_input_streaming: Annotated[bool | None, doc("accepted: input always streams")] = None


class ToolChoiceParam(msgspec.Struct, kw_only=True):
    """Whether a tool is called."""

    type: Literal["auto", "any", "tool", "none"]
    name: Annotated[str | None, doc("of the tool, with type tool")] = None
    disable_parallel_tool_use: Annotated[bool | None, doc("true: at most one call")] = None


class ThinkingParam(msgspec.Struct, kw_only=True):
    """Whether and how much to think first, for models that can."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int | None, doc("most tokens of thinking")] = None
    display: Annotated[
        Literal["summarized", "omitted"] | None, doc("omitted: thinking blocks without their text")
    ] = None


class OutputFormat(msgspec.Struct, kw_only=True):
    """What the text of the answer must be."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True):
    """How much effort, and in which form."""

    effort: Effort | None = None
    format: OutputFormat | None = None


class CountTokensRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages/count_tokens: a conversation, which is also most of POST /v1/messages."""

    nested: ClassVar[dict[str, type[msgspec.Struct]]] = {
        "messages": MessageParam,
        "tools": ToolParam,
    }
    refused: ClassVar[dict[str, Refusal]] = {
        "container": (bool, "is not supported"),
        "mcp_servers": (bool, "is not supported; call a tool of your own"),
    }

    model: Annotated[str, doc("a name that /v1/models lists")]
    messages: list[MessageParam]
    system: Annotated[
        str | list[dict[str, Any]] | None, doc("instructions: text, or blocks of text")
    ] = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoiceParam | None = None
    thinking: ThinkingParam | None = None
    output_config: OutputConfig | None = None
    output_format: Annotated[OutputFormat | None, doc("older place of output_config.format")] = None
    context_management: Annotated[
        dict[str, Any] | None, doc("only edits that keep everything")
    ] = None
    cache_control: Annotated[dict[str, Any] | None, doc("accepted: prefixes are cached")] = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """POST /v1/messages."""

    max_tokens: Annotated[int, doc("most tokens to generate; less if the context ends before")]
    stop_sequences: Annotated[list[str] | None, doc("up to 16 strings that end the answer")] = None
    stream: Annotated[bool | None, doc("server-sent events as tokens come")] = None
    temperature: Annotated[float | None, doc("0 is greedy; 1 if absent")] = None
    top_k: Annotated[int | None, doc("likeliest tokens up to this number")] = None
    top_p: Annotated[float | None, doc("likeliest tokens up to this probability")] = None
    metadata: Annotated[dict[str, Any] | None, doc("accepted: says who asks")] = None
    service_tier: Annotated[
        Literal["auto", "standard_only"] | None, doc("accepted: there is one tier")
    ] = None


@contextmanager
def client_names() -> Iterator[None]:
    """Errors in here name the fields as Anthropic's clients know them."""
    try:
        yield
    except RequestError as error:
        ours = error.param or ""
        theirs = "stop_sequences" if ours == "stop" else ours.replace(*_PARAMETERS)
        if theirs != ours:
            error.param, error.message = theirs, error.message.replace(ours, theirs, 1)
        raise


def messages_task(request: MessagesRequest) -> ChatTask:
    """What the body asks for; RequestError names the field at fault."""
    given = {
        name: value
        for name in ("temperature", "top_k", "top_p")
        if (value := getattr(request, name)) is not None
    }
    sampling = msgspec.structs.replace(
        SamplingParams(),
        **given,
        max_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences or ()),
    )
    with client_names():
        sampling.checked()
    return conversation_task(request, sampling)


def conversation_task(
    request: CountTokensRequest, sampling: SamplingParams | None = None
) -> ChatTask:
    """The conversation of either body; without `sampling` nothing is to be said."""
    messages, continues = read_messages(request.messages)
    tools = _tools(request.tools)
    choice, parallel = _choice(request.tool_choice, tools)
    _check_edits(request.context_management)
    return ChatTask(
        messages=read_system(request.system) + messages,
        sampling=sampling or SamplingParams(max_tokens=0),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        constraint=_constraint(request),
        thinking=_thinking(request),
        continues_last=continues,
        add_generation_prompt=not continues,
        overflow="shorten",
    )


def _tools(tools: list[ToolParam] | None) -> tuple[Tool, ...]:
    plain = []
    for i, tool in enumerate(tools or ()):
        where = f"tools[{i}]"
        if tool.type not in (None, "custom"):
            name = f"{where}.type"
            message = f"{name}: only custom tools are supported, got {tool.type[:40]!r}"
            raise RequestError(message, param=name, code="unsupported_parameter")
        if tool.input_schema is None:
            name = f"{where}.input_schema"
            raise RequestError(f"{name}: is required", param=name)
        plain.append(
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.input_schema,
                "strict": bool(tool.strict),
            }
        )
    return read_tools(plain)


def _choice(given: ToolChoiceParam | None, tools: tuple[Tool, ...]) -> tuple[ToolChoice, bool]:
    """The choice, and whether several calls may be made at once."""
    if given is None:
        return ToolChoice(mode="auto" if tools else "none"), True
    parallel = not given.disable_parallel_tool_use
    if given.type in ("any", "tool") and not tools:
        raise RequestError("tool_choice: there are no tools to require", param="tool_choice")
    if given.type != "tool":
        mode: dict[str, Literal["none", "auto", "required"]]
        mode = {"auto": "auto" if tools else "none", "any": "required", "none": "none"}
        return ToolChoice(mode=mode[given.type]), parallel
    where = "tool_choice.name"
    if given.name is None:
        raise RequestError(f"{where}: is required", param=where)
    if given.name not in {tool.name for tool in tools}:
        raise RequestError(f"{where}: there is no tool called {given.name[:128]!r}", param=where)
    return ToolChoice(mode="required", names=(given.name,)), parallel


def _constraint(request: CountTokensRequest) -> Constraint | None:
    config = request.output_config
    for where, wanted in (
        ("output_config.format", config.format if config is not None else None),
        ("output_format", request.output_format),
    ):
        if wanted is not None:
            return Constraint(kind="json_schema", value=wanted.schema, param=f"{where}.schema")
    return None


def _thinking(request: CountTokensRequest) -> Thinking:
    """Without `thinking` a model does as it does by itself."""
    effort = request.output_config.effort if request.output_config is not None else None
    given = request.thinking
    if given is None:
        return Thinking(effort=effort)
    budget = given.budget_tokens
    if budget is not None and not 0 <= budget < 2**31:
        where = "thinking.budget_tokens"
        raise RequestError(f"{where}: must be a number of tokens", param=where)
    if given.type == "disabled":
        return Thinking(enabled=False)
    return Thinking(enabled=True, effort=effort, budget=budget)


def _check_edits(management: dict[str, Any] | None) -> None:
    """Refuse every edit of the conversation that would change it."""
    edits = (management or {}).get("edits")
    for i, edit in enumerate(edits if isinstance(edits, list) else ()):
        fields = edit if isinstance(edit, dict) else {}
        kind = str(fields.get("type"))
        if not (kind.startswith("clear_thinking_") and fields.get("keep") == "all"):
            where = f"context_management.edits[{i}]"
            raise RequestError(
                f"{where}: is not supported; shorten the conversation before sending it",
                param=where,
                code="unsupported_parameter",
            )
