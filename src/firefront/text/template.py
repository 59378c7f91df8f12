"""The one place where a chat template is rendered: chat, tokenizing, tuning and the CLI come here.

Owns finding, compiling and rendering a model's template with limits on size and work. The template
is hostile until proven otherwise: it comes with the model file, never with a request.
Invariant: a rendering ends with text, RequestError (these messages) or ModelFileError (this file).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2
from jinja2 import nodes

from firefront.core.errors import ModelFileError, RequestError
from firefront.text.bounds import BUDGET, Budget, LimitError
from firefront.text.sandbox import TemplateEnvironment

MAX_TEMPLATE_CHARS = 128 << 10
MAX_OUTPUT_BYTES = 16 << 20
# What a request may pass to the template, all scalars. Nothing here can replace what we pass.
ALLOWED_KWARGS = frozenset(
    {
        "add_vision_id", "clear_thinking", "date_string", "enable_thinking", "keep_thinking",
        "model_identity", "preserve_thinking", "reasoning", "reasoning_effort", "thinking",
        "thinking_budget", "thinking_mode", "tools_in_user_message", "xml_tool_calls",
    }
)  # fmt: skip
MAX_KWARG_CHARS = 4096
GENERIC_TOKENS = frozenset({"<|im_start|>", "<|im_end|>"})
GENERIC_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class ChatTemplate:
    """A model's chat template(s): "default", and possibly "tool_use" for requests with tools.

    `is_generic`: the model has none of its own, so plain ChatML stands in.
    `takes_parts`: the template goes through lists of content parts itself.
    """

    def __init__(
        self,
        templates: Mapping[str, str],
        source: str,
        special_texts: Mapping[str, str],
        *,
        is_generic: bool = False,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.source = source
        self.is_generic = is_generic
        self.text = "\n".join(templates.values())
        self._templates = dict(templates)
        self._special_texts = dict(special_texts)
        self._environment = TemplateEnvironment(now)
        self._compiled: dict[str, jinja2.Template] = {}
        self._lock = threading.Lock()

    @property
    def default_text(self) -> str:
        """The template for requests without tools."""
        return self._templates[self._default_name]

    @property
    def _default_name(self) -> str:
        return "default" if "default" in self._templates else min(self._templates)

    @cached_property
    def takes_parts(self) -> bool:
        return "content" in self.text and self._loops_over_content()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        kwargs: Mapping[str, Any] | None = None,
        *,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        budget: Budget | None = None,
    ) -> str:
        """The text of a conversation. `messages` and `tools` are JSON data, `kwargs` the request's
        own settings for the template: scalars named in ALLOWED_KWARGS.

        Runs in this thread for at most about half a second of CPU (`budget`); the gateway calls it
        in a worker that it may kill. Raises RequestError with the template's own message where the
        template refuses the messages, ModelFileError where the template itself is at fault.
        """
        template = self._template("tool_use" if tools and "tool_use" in self._templates else None)
        variables = {
            **self._special_texts,
            **_checked_kwargs(kwargs or {}),
            "messages": messages,
            "tools": tools or None,
            "documents": None,
            "add_generation_prompt": bool(add_generation_prompt),
            BUDGET: budget or Budget(),
        }
        chunks: list[str] = []
        size_bytes = 0
        try:
            for chunk in template.generate(variables):
                size_bytes += len(chunk.encode("utf-8", "surrogatepass"))
                if size_bytes > max_output_bytes:
                    raise LimitError(f"the rendered text passes {max_output_bytes} bytes")
                chunks.append(chunk)
        except jinja2.exceptions.SecurityError as error:
            raise self._at_fault(str(error)) from None
        except (RecursionError, MemoryError) as error:
            raise self._at_fault(f"{type(error).__name__} while rendering") from None
        except jinja2.TemplateError as error:
            raise RequestError(f"chat template: {error}", param="messages") from None
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise RequestError(
                f"chat template cannot render these messages: {error}", param="messages"
            ) from None
        return "".join(chunks)

    def check(self) -> None:
        """ModelFileError if a template cannot be compiled. `render` would say so, later."""
        for name in self._templates:
            self._template(name)

    def _template(self, name: str | None) -> jinja2.Template:
        if name is None:
            name = self._default_name
        with self._lock:
            if name not in self._compiled:
                self._compiled[name] = self._compile(self._templates[name])
            return self._compiled[name]

    def _compile(self, text: str) -> jinja2.Template:
        if len(text) > MAX_TEMPLATE_CHARS:
            raise self._at_fault(f"is longer than {MAX_TEMPLATE_CHARS} characters")
        try:
            return self._environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise self._at_fault(f"line {error.lineno}: {error.message}") from None
        except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
            raise self._at_fault(f"cannot be compiled: {error}") from None

    def _loops_over_content(self) -> bool:
        """Whether a loop goes over some `content`, the sign that lists of parts are expected."""
        if len(self.text) > MAX_TEMPLATE_CHARS:
            return False
        try:
            trees = [self._environment.parse(text) for text in self._templates.values()]
        except (jinja2.TemplateError, RecursionError):
            return False  # reported when it is first rendered
        loops = (loop for tree in trees for loop in tree.find_all(nodes.For))
        return any(_mentions_content(loop.iter) for loop in loops)

    def _at_fault(self, problem: str) -> ModelFileError:
        return ModelFileError(self.source, "chat_template", problem)


def names_in(text: str) -> frozenset[str]:
    """The names that a template's statements and expressions use: variables, not attributes of
    something and no words of its text. None of them if it cannot be read."""
    if len(text) > MAX_TEMPLATE_CHARS:
        return frozenset()
    names: set[str] = set()
    before = ""
    try:
        for _, kind, value in TemplateEnvironment(datetime.now).lex(text):
            if kind == "name" and before != ".":
                names.add(value)
            if kind != "whitespace":
                before = value
    except jinja2.TemplateError:
        return frozenset()
    return frozenset(names)


def _mentions_content(node: nodes.Node) -> bool:
    subject = node.node if isinstance(node, nodes.Filter) else node
    if isinstance(subject, nodes.Getattr):
        return subject.attr == "content"
    if isinstance(subject, nodes.Getitem) and isinstance(subject.arg, nodes.Const):
        return bool(subject.arg.value == "content")
    return isinstance(subject, nodes.Name) and subject.name == "content"


def _checked_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in kwargs.items():
        where = f"chat_template_kwargs.{name}"
        if name not in ALLOWED_KWARGS:
            known = ", ".join(sorted(ALLOWED_KWARGS))
            raise RequestError(f"{where}: not one of {known}", param=where)
        if value is not None and not isinstance(value, bool | int | float | str):
            raise RequestError(f"{where}: must be a string, number or boolean", param=where)
        if isinstance(value, str) and len(value) > MAX_KWARG_CHARS:
            raise RequestError(f"{where}: longer than {MAX_KWARG_CHARS} characters", param=where)
    return dict(kwargs)
