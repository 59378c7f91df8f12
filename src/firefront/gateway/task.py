"""The internal request: what every chat-like API family translates its body into.

Knows nothing of bodies, templates or replicas.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.sampling import SamplingParams


@dataclass(frozen=True)
class FieldNames:
    """What the client calls these fields, so that errors name them as he knows them."""

    messages: str = "messages"
    tools: str = "tools"
    max_tokens: str = "max_tokens"
    prediction: str = "prediction"


@dataclass(frozen=True, kw_only=True)
class ChatTask:
    """A conversation to go on with. `messages` are OpenAI's chat messages, checked.

    `sampling.max_tokens` None: up to the end of the context. `continues_last`: the answer goes on
    with the last message, an assistant's. `max_prompt_tokens`: a longer prompt loses its oldest
    turns. `overflow` "shorten": max_tokens shrinks to what there is room for; "truncate": also, and
    a prompt that leaves no room loses its oldest turns.
    """

    messages: list[dict[str, Any]]
    sampling: SamplingParams
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    constraint: Constraint | None = None
    thinking: Thinking = Thinking()
    prediction: str | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    continues_last: bool = False
    add_generation_prompt: bool = True
    overflow: Literal["error", "shorten", "truncate"] = "error"
    max_prompt_tokens: int | None = None
    names: FieldNames = FieldNames()


@dataclass(frozen=True, kw_only=True)
class Service:
    """How a request is served, whatever it says: whose it is, how urgent, apart from whom."""

    account_id: str = "local"
    priority: int = 0  # lower numbers first
    cache_salt: str = ""  # prefixes are shared only between requests with the same


ANYONE = Service()
