"""The jinja environment of chat templates: plain data, few names, bounded work.

Owns what a template may touch and how much it may compute. Does not know messages or tokens.
Invariant: every value a template can build has been measured against the limit before it exists,
and every loop, call, operator and output spends from one budget. A template that holds a thread in
one long expression is stopped only by the caller's process, so render hostile ones in a worker.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import filters, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

MAX_VALUE_CHARS = 16 << 20
MAX_RANGE = 100_000
MAX_STEPS = 1_000_000
MAX_CPU_S = 0.5
MAX_DEPTH = 100
MAX_INT_BITS = 1024
MAX_INDENT = 64

BUDGET = " budget"  # a context key that no template can spell

_STR_METHODS = frozenset(
    "capitalize count endswith find index isalnum isalpha isdigit islower isspace isupper join "
    "lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip "
    "split splitlines startswith strip title upper".split()
)
_ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _STR_METHODS),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (list, frozenset({"count", "index"})),
    (tuple, frozenset({"count", "index"})),
    (
        LoopContext,
        frozenset(
            "changed cycle depth depth0 first index index0 last length nextitem previtem revindex "
            "revindex0".split()
        ),
    ),
)
_FILTERS = (
    "abs capitalize count d default dictsort e escape first float int items last length list lower "
    "map max min reject rejectattr reverse safe select selectattr sort title trim unique upper"
).split()


class LimitError(SecurityError):
    """The template wants more text, steps or time than a conversation needs."""


class Budget:
    """What one rendering may still spend: steps, and CPU seconds of this thread."""

    def __init__(
        self,
        max_steps: int = MAX_STEPS,
        max_cpu_s: float = MAX_CPU_S,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._steps, self._clock = max_steps, cpu_clock
        self._deadline_s = cpu_clock() + max_cpu_s

    def spend(self) -> None:
        self._steps -= 1
        if self._steps < 0 or self._clock() > self._deadline_s:
            raise LimitError("the template computes too long")


def measure(value: Any) -> int:
    """Size of `value` as text, counting shared parts as often as they would be printed.

    Raises LimitError past MAX_VALUE_CHARS or MAX_DEPTH, and for what is not plain data.
    """
    size, stack = 0, [(value, 0)]
    while stack:
        item, depth = stack.pop()
        size += 4
        if isinstance(item, str):
            size += len(item)
        elif item is None or isinstance(item, bool | float | Undefined):
            pass
        elif isinstance(item, int):
            _check(item.bit_length() <= MAX_INT_BITS, "a number is too large")
        elif isinstance(item, dict | list | tuple):
            _check(depth < MAX_DEPTH, "data is nested too deep")
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            stack.extend((part, depth + 1) for part in parts)
        else:
            raise SecurityError(f"the template uses a {type(item).__name__} as a value")
        _check(size + len(stack) <= MAX_VALUE_CHARS, "a value is too long")
    return size


def _check(condition: bool, problem: str) -> None:
    if not condition:
        raise LimitError(f"in the template {problem}")


def _spend(context: Context) -> None:
    context.resolve(BUDGET).spend()


# What templates call instead of jinja's own.


@pass_context
def _ticked(context: Context, values: Any) -> Iterable[Any]:
    if isinstance(values, Undefined):
        return values  # type: ignore[no-any-return]  # fails, or is empty, as the template's author expects
    budget = context.resolve(BUDGET)

    def spending() -> Iterator[Any]:
        for value in values:
            budget.spend()
            yield value

    return spending() if not hasattr(values, "__len__") else _Sized(values, spending)


class _Sized:
    """An iterable that spends, with a length, so that `loop.last` and `loop.length` stay cheap."""

    def __init__(self, values: Any, spending: Callable[[], Iterator[Any]]) -> None:
        self._values, self._spending = values, spending

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return self._spending()


@pass_context
def _built(context: Context, value: Any) -> Any:
    """A list, tuple or dict literal; it may hold functions and namespaces, but not grow by them."""
    _spend(context)
    parts = [*value.values()] if isinstance(value, dict) else value
    for part in parts:
        if isinstance(part, str | dict | list | tuple):
            measure(part)
    _check(sum(_shallow(part) for part in parts) <= MAX_VALUE_CHARS, "a value is too long")
    return value


def _shallow(part: Any) -> int:
    return measure(part) if isinstance(part, dict | list | tuple | str) else 4


@pass_context
def _concat(context: Context, first: Any, *rest: Any) -> str:
    _spend(context)
    _check(
        sum(map(measure, (first, *rest))) <= MAX_VALUE_CHARS + 4 * len(rest), "a text is too long"
    )
    return "".join(map(str, (first, *rest)))


@pass_context
def _printed(context: Context, value: Any) -> Any:
    _spend(context)
    measure(value)
    return value


def _string(value: Any) -> str:
    measure(value)
    return str(value)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(value, Undefined):
        raise TypeError(f"{value._undefined_name!r} is undefined and cannot be printed as JSON")
    size = measure(value)
    if indent is not None:
        _check(0 <= int(indent) <= MAX_INDENT, "an indent is too large")
        _check(size * int(indent) <= 4 * MAX_VALUE_CHARS, "a text is too long")
    if separators is not None:
        separators = tuple(separators)
        _check(measure(separators) <= 64, "a separator is too long")
    return json.dumps(
        value,
        ensure_ascii=bool(ensure_ascii),
        indent=indent,
        separators=separators,
        sort_keys=bool(sort_keys),
    )


def _join_parts(separator: str, parts: Iterable[Any]) -> str:
    texts, size = [], 0
    for part in parts:
        size += measure(part) + len(separator)
        _check(size <= 2 * MAX_VALUE_CHARS, "a text is too long")
        texts.append(str(part))
    return separator.join(texts)


@pass_context
def _join(context: Context, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(filters.make_attrgetter(context.environment, attribute), value)
    return _join_parts(str(d), value)


def _replace(text: Any, old: Any, new: Any, count: int | None = -1) -> str:
    text, old, new = _string(text), _string(old), _string(new)
    growth = text.count(old) * max(0, len(new) - len(old))
    _check(len(text) + growth <= MAX_VALUE_CHARS, "a text is too long")
    return text.replace(old, new, -1 if count is None else int(count))


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = _string(text)
    width_len = len(width) if isinstance(width, str) else int(width)
    _check(0 <= width_len <= MAX_INDENT, "an indent is too large")
    _check(len(text) + (text.count("\n") + 1) * width_len <= MAX_VALUE_CHARS, "a text is too long")
    return filters.do_indent(text, width, first, blank)


def _round(value: Any, precision: int = 0, method: Any = "common") -> float:
    _check(abs(int(precision)) <= 16, "a precision is too large")
    return filters.do_round(value, precision, method)


def _range(*args: int) -> range:
    values = range(*args)
    _check(len(values) <= MAX_RANGE, f"a range is longer than {MAX_RANGE}")
    return values


@pass_context
def _dict(context: Context, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    return _built(context, dict(*args, **kwargs))  # type: ignore[no-any-return]


class _Namespace(Namespace):
    """A namespace whose names are the template's own, never Python's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = dict(*args, **kwargs)
        for name in values:
            self._check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        self._check_name(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check_name(name: Any) -> None:
        if not isinstance(name, str) or name.startswith("_"):
            raise SecurityError(f"the template may not store {name!r} in a namespace")


def _raise_exception(message: Any) -> None:
    raise TemplateError(_string(message)[:2000])


class _GenerationExtension(Extension):
    """{% generation %} marks the assistant's text for training; for rendering it is its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The only jinja environment of the project. `now` gives `strftime_now` its time."""

    intercepted_binops = frozenset(("*", "**", "%", "+", "/", "//"))

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, _GenerationExtension],
            finalize=_printed,
            optimized=False,
            cache_size=0,
        )
        self.filters = {name: filters.FILTERS[name] for name in _FILTERS} | {
            "string": _string,
            "tojson": _tojson,
            "join": _join,
            "replace": _replace,
            "indent": _indent,
            "round": _round,
            " ticked": _ticked,
            " built": _built,
            " concat": _concat,
        }
        self.globals = {
            "range": _range,
            "dict": _dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": lambda pattern: now().strftime(str(pattern)[:256]),
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Metering().visit(super()._parse(source, name, filename))  # type: ignore[no-any-return]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if attr.startswith("_"):
            return False
        if isinstance(obj, Namespace):
            return True
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES)

    def wrap_str_format(self, value: Any) -> None:
        return None  # str.format is not on the list: its result has no bound

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902, N805
        _spend(__context)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            return _replace(owner, *args, **kwargs)
        if isinstance(owner, str) and name == "join":
            return _join_parts(owner, *args, **kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _spend(context)
        if operator == "**":
            _check(isinstance(right, int | float) and abs(right) <= 64, "a power is too large")
        elif operator == "*":
            _check(_product_size(left, right) <= MAX_VALUE_CHARS, "a repetition is too long")
        elif operator == "%" and isinstance(left, str):
            _check_format(left, right)
        elif operator == "+" and isinstance(left, str | list | tuple):
            if isinstance(right, str | list | tuple):
                _check(len(left) + len(right) <= MAX_VALUE_CHARS, "a text is too long")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int):
            _check(result.bit_length() <= MAX_INT_BITS, "a number is too large")
        return result


def _product_size(left: Any, right: Any) -> int:
    if isinstance(left, str | list | tuple) and isinstance(right, int):
        return measure(left) * max(right, 0)
    if isinstance(right, str | list | tuple) and isinstance(left, int):
        return measure(right) * max(left, 0)
    return 0


_FORMAT = re.compile(r"%[#0+ -]*\d{0,2}(?:\.\d{0,2})?[sdifgeEGxXrc%]")


def _check_format(pattern: str, values: Any) -> None:
    if isinstance(values, Mapping) or "%" in _FORMAT.sub("", pattern):
        raise SecurityError("the template uses a format other than %s, %d and %f")
    size = len(pattern) * 100 + sum(map(measure, values if isinstance(values, tuple) else [values]))
    _check(size <= MAX_VALUE_CHARS, "a text is too long")


def _filtered(value: nodes.Expr, name: str, args: list[nodes.Expr]) -> nodes.Filter:
    return nodes.Filter(value, name, args, [], None, None, lineno=value.lineno)


class _Metering(NodeTransformer):
    """Routes what jinja compiles to plain Python through the functions above."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, " ticked", [])
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node.nodes[0], " concat", node.nodes[1:])

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, " built", [])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, " built", [])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.ctx != "load" else _filtered(node, " built", [])
