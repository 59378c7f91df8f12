"""The body of POST /v1/chat/completions, and what it asks for as a ChatTask.

Owns the meaning of each field; ranges are SamplingParams' business.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from firefront.core.chat import Thinking
from firefront.core.errors import RequestError
from firefront.core.sampling import MAX_LOGPROBS
from firefront.core.tools import read_tools
from firefront.gateway.constraints import constraint_of
from firefront.gateway.fields import GenerationRequest, doc, sampling_of
from firefront.gateway.task import ChatTask, FieldNames
from firefront.gateway.tool_fields import (
    read_function_call,
    read_functions,
    read_tool_choice,
)

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Message(msgspec.Struct, kw_only=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[
        str | list[dict[str, Any]] | None, doc('text, or parts {"type": "text", "text": ...}')
    ] = None
    name: str | None = None
    id: Annotated[str | None, doc("what it is called where it is stored")] = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Prediction(msgspec.Struct, kw_only=True):
    """Text that much of the answer will be a copy of."""

    type: Literal["content"]
    content: Annotated[
        str | list[dict[str, Any]], doc('text, or parts {"type": "text", "text": ...}')
    ]


class ChatRequest(GenerationRequest, kw_only=True):
    """POST /v1/chat/completions."""

    nested: ClassVar[dict[str, type[msgspec.Struct]]] = {"messages": Message}

    messages: list[Message]
    max_completion_tokens: Annotated[int | None, doc("as max_tokens, the newer name")] = None
    logprobs: Annotated[bool | int | None, doc("log-probability of each token")] = None
    top_logprobs: Annotated[int | None, doc("and of the likeliest others, up to 20")] = None
    tools: Annotated[list[dict[str, Any]] | None, doc("functions the model may call")] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | dict[str, Any] | None,
        doc("whether a tool is called; a function object: that one"),
    ] = None
    parallel_tool_calls: Annotated[bool | None, doc("false: at most one call an answer")] = None
    functions: Annotated[list[dict[str, Any]] | None, doc("older form of tools")] = None
    function_call: Annotated[
        Literal["none", "auto"] | dict[str, Any] | None, doc("older form of tool_choice")
    ] = None
    reasoning_effort: Annotated[
        str | int | bool | None,
        doc("none to high; false: do not think; a number: tokens to think at most"),
    ] = None
    thinking: Annotated[
        dict[str, Any] | None, doc('{"type": "enabled" or "disabled", "budget_tokens": n}')
    ] = None
    prediction: Annotated[
        Prediction | str | None,
        doc("an expected answer: the same tokens, sooner where it is right"),
    ] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, doc("values for the template")] = None
    add_generation_prompt: Annotated[bool | None, doc("false: no assistant turn is opened")] = None
    continue_final_message: Annotated[
        bool | None, doc("go on with the last message, an assistant's")
    ] = None
    store: Annotated[bool | None, doc("keep it, for GET /v1/chat/completions")] = None
    modalities: Annotated[list[str] | None, doc('only ["text"]')] = None


def chat_task(request: ChatRequest) -> ChatTask:
    """What the body asks for; RequestError names the field at fault."""
    if not request.messages:
        raise RequestError("messages: must hold at least one message", param="messages")
    if request.modalities not in (None, [], ["text"]):
        message = "modalities: can only be text"
        raise RequestError(message, param="modalities", code="unsupported_parameter")
    if request.tools and request.functions:
        raise RequestError("functions: tools are there already; send one", param="functions")
    if request.functions:
        tools = read_functions(request.functions)
        choice = read_function_call(request.function_call, tools)
    else:
        tools = read_tools(request.tools)
        choice = read_tool_choice(request.tool_choice, tools)
    sampling = sampling_of(
        request, logprobs=_logprobs(request), prompt_logprobs=None, max_tokens=_max_tokens(request)
    )
    continues = _continues_last(request)
    return ChatTask(
        messages=[_plain(message, i) for i, message in enumerate(request.messages)],
        sampling=sampling,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls is not False and not request.functions,
        constraint=constraint_of(request),
        thinking=_thinking(request),
        prediction=_prediction(request),
        template_kwargs=template_kwargs(request.chat_template_kwargs),
        continues_last=continues,
        add_generation_prompt=request.add_generation_prompt is not False and not continues,
        overflow=request.context_length_exceeded_behavior or "error",
        max_prompt_tokens=request.max_prompt_tokens(),
        names=FieldNames(tools="functions" if request.functions else "tools"),
    )


def text_of(content: str | list[dict[str, Any]], where: str) -> str:
    """Text, or the texts of its parts; RequestError for a part that is something else."""
    if isinstance(content, str):
        return content
    for i, part in enumerate(content):
        kind = part.get("type")
        if kind not in ("text", "refusal") or not isinstance(part.get(kind), str):
            name = f"{where}[{i}]"
            raise RequestError(
                f"{name}: only text is supported, got {str(kind)[:40]!r}", param=name
            )
    return "".join(part[part["type"]] for part in content)


def _plain(message: Message, index: int) -> dict[str, Any]:
    """The message as templates expect it: newer and older names of one thing become one."""
    where = f"messages[{index}].content"
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "developer":
        plain["role"] = "system"
    elif message.role == "function":
        plain["role"] = "tool"
    for name in ("name", "tool_calls", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            plain[name] = value
    thought = message.reasoning_content or message.reasoning
    if thought is not None:
        plain["reasoning_content"] = thought
    if message.function_call is not None:
        plain["tool_calls"] = [{"type": "function", "function": message.function_call}]
    if message.content is not None:
        text_of(message.content, where)
    elif message.role != "assistant" or not (plain.get("tool_calls") or message.refusal or thought):
        raise RequestError(f"{where}: is required", param=where)
    elif message.refusal:
        plain["content"] = message.refusal
    return plain


def _max_tokens(request: ChatRequest) -> int | None:
    limits = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise RequestError(
            "max_tokens and max_completion_tokens differ; send one", param="max_tokens"
        )
    return limits.pop() if limits else None


def _logprobs(request: ChatRequest) -> int | None:
    wanted, top = request.logprobs, request.top_logprobs
    if wanted is None or wanted is False:
        if top:
            raise RequestError("top_logprobs: needs logprobs to be true", param="top_logprobs")
        return None
    if top is not None and not 0 <= top <= MAX_LOGPROBS:
        raise RequestError(
            f"top_logprobs: must be between 0 and {MAX_LOGPROBS}, got {top}", param="top_logprobs"
        )
    if wanted is True:
        return top or 0
    return wanted if top is None else top


def _thinking(request: ChatRequest) -> Thinking:
    """OpenAI's effort, Fireworks' numbers and booleans for it, Anthropic's object."""
    effort, given = request.reasoning_effort, request.thinking
    if given is not None:
        kind, budget = given.get("type"), given.get("budget_tokens")
        if kind not in ("enabled", "disabled", "adaptive"):
            raise RequestError(
                "thinking.type: must be enabled or disabled", param="thinking.type"
            )
        _check_budget(budget, "thinking.budget_tokens")
        return Thinking(enabled=kind != "disabled", budget=budget)
    if effort is None:
        return Thinking()
    if isinstance(effort, bool):
        return Thinking(enabled=effort)
    if isinstance(effort, int):
        _check_budget(effort, "reasoning_effort")
        return Thinking(enabled=effort > 0, budget=effort or None)
    return thinking_of_effort(effort, "reasoning_effort")


def thinking_of_effort(effort: str, where: str) -> Thinking:
    """OpenAI's word for how much to think; RequestError for one that is not its."""
    if effort not in _EFFORTS:
        raise RequestError(f"{where}: must be one of {', '.join(_EFFORTS)}", param=where)
    return Thinking(enabled=effort != "none", effort=None if effort == "none" else effort)


def _check_budget(budget: Any, where: str) -> None:
    if budget is None:
        return
    if type(budget) is not int or not 0 <= budget < 2**31:
        raise RequestError(f"{where}: must be a number of tokens", param=where)


def _prediction(request: ChatRequest) -> str | None:
    if request.prediction is None or isinstance(request.prediction, str):
        return request.prediction
    return text_of(request.prediction.content, "prediction.content")


def template_kwargs(given: dict[str, Any] | None) -> dict[str, Any]:
    """Values for the template, but for what is set by other means."""
    kwargs = dict(given or {})
    if reserved := kwargs.keys() & {"messages", "tools", "add_generation_prompt"}:
        name = f"chat_template_kwargs.{min(reserved)}"
        raise RequestError(f"{name}: cannot be set", param=name)
    return kwargs


def _continues_last(request: ChatRequest) -> bool:
    if not request.continue_final_message:
        return False
    if request.add_generation_prompt:
        raise RequestError(
            "continue_final_message: add_generation_prompt opens another message; send one",
            param="continue_final_message",
        )
    last = request.messages[-1]
    if last.role != "assistant" or last.tool_calls or not last.content:
        raise RequestError(
            "continue_final_message: the last message must be an assistant's text",
            param="continue_final_message",
        )
    return True
