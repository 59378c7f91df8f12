"""The bodies of POST /tokenize, /detokenize and /apply-template, and the conversations in them."""

from typing import Annotated, Any, ClassVar

import msgspec

from firefront.gateway.chat_body import ChatRequest, Message, chat_task
from firefront.gateway.fields import doc
from firefront.gateway.task import ChatTask

_LIKE_CHAT = ("tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")


class TemplateRequest(msgspec.Struct, kw_only=True):
    """POST /apply-template: a conversation."""

    nested: ClassVar[dict[str, type[msgspec.Struct]]] = {"messages": Message}

    messages: list[Message]
    model: Annotated[str | None, doc("may be left out where one model is served")] = None
    tools: Annotated[list[dict[str, Any]] | None, doc("functions, for the template")] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, doc("values for the template")] = None
    add_generation_prompt: Annotated[bool | None, doc("false: no assistant turn is opened")] = None
    continue_final_message: Annotated[bool | None, doc("end with the last message's text")] = None


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /tokenize: one of prompt, content and messages."""

    nested: ClassVar[dict[str, type[msgspec.Struct]]] = {"messages": Message}

    model: Annotated[str | None, doc("may be left out where one model is served")] = None
    prompt: Annotated[str | None, doc("text, framed by special tokens unless told otherwise")] = (
        None
    )
    content: Annotated[str | None, doc("text, not framed unless asked")] = None
    messages: Annotated[list[Message] | None, doc("a conversation")] = None
    add_special_tokens: Annotated[bool | None, doc("frame the text, for prompt")] = None
    add_special: Annotated[bool | None, doc("frame the text, for content")] = None
    parse_special: Annotated[
        bool | None, doc("false: special tokens spelled out in the text are plain text")
    ] = None
    return_token_strs: Annotated[bool | None, doc("also token_strs, each token's text")] = None
    with_pieces: Annotated[
        bool | None, doc("tokens as {id, piece}; a piece that is not UTF-8 is a list of bytes")
    ] = None
    tools: Annotated[list[dict[str, Any]] | None, doc("functions, for the template")] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, doc("values for the template")] = None
    add_generation_prompt: Annotated[bool | None, doc("false: no assistant turn is opened")] = None
    continue_final_message: Annotated[bool | None, doc("end with the last message's text")] = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /detokenize."""

    tokens: Annotated[list[int], doc("token ids")]
    model: Annotated[str | None, doc("may be left out where one model is served")] = None


def conversation_task(request: TemplateRequest | TokenizeRequest) -> ChatTask:
    """The conversation, read as chat completions reads it."""
    fields = {name: getattr(request, name) for name in _LIKE_CHAT}
    return chat_task(ChatRequest(model="", messages=request.messages or [], **fields))
