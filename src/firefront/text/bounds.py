"""What a chat template computes with: jinja's helpers, each refusing to grow past a limit.

Owns the budget of one rendering and the measure of a value. Does not know the environment.
Invariant: no function here builds a value longer than about MAX_VALUE_CHARS characters.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from string import Formatter
from typing import Any

from jinja2 import filters
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.runtime import Context, Undefined
from jinja2.utils import Namespace, pass_context

MAX_VALUE_CHARS = 16 << 20
MAX_RANGE = 100_000
MAX_STEPS = 1_000_000
MAX_CPU_S = 0.5
MAX_DEPTH = 100
MAX_INT_BITS = 1024
MAX_POWER = 64
MAX_INDENT = 64

BUDGET = " budget"  # a context key that no template can spell


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
            check(item.bit_length() <= MAX_INT_BITS, "a number is too large")
        elif isinstance(item, dict | list | tuple):
            check(depth < MAX_DEPTH, "data is nested too deep")
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            stack.extend((part, depth + 1) for part in parts)
        else:
            raise SecurityError(f"the template uses a {type(item).__name__} as a value")
        check(size + len(stack) <= MAX_VALUE_CHARS, "a value is too long")
    return size


def check(condition: bool, problem: str) -> None:
    if not condition:
        raise LimitError(f"in the template {problem}")


def spend(context: Context) -> None:
    context.resolve(BUDGET).spend()


# What templates call instead of jinja's own.


@pass_context
def ticked(context: Context, values: Any) -> Iterable[Any]:
    if isinstance(values, Undefined):
        return values  # an empty loop
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
def built(context: Context, value: Any) -> Any:
    """A list, tuple or dict literal; it may hold functions and namespaces, but not grow by them."""
    spend(context)
    parts = [*value.values()] if isinstance(value, dict) else value
    check(sum(_shallow(part) for part in parts) <= MAX_VALUE_CHARS, "a value is too long")
    return value


def _shallow(part: Any) -> int:
    return measure(part) if isinstance(part, dict | list | tuple | str) else 4


@pass_context
def concat(context: Context, first: Any, *rest: Any) -> str:
    spend(context)
    check(
        sum(map(measure, (first, *rest))) <= MAX_VALUE_CHARS + 4 * len(rest), "a text is too long"
    )
    return "".join(map(str, (first, *rest)))


@pass_context
def printed(context: Context, value: Any) -> Any:
    spend(context)
    measure(value)
    return value


def string(value: Any) -> str:
    measure(value)
    return str(value)


def tojson(
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
        check(0 <= int(indent) <= MAX_INDENT, "an indent is too large")
        check(size * int(indent) <= 4 * MAX_VALUE_CHARS, "a text is too long")
    if separators is not None:
        separators = tuple(separators)
        check(measure(separators) <= 64, "a separator is too long")
    return json.dumps(
        value,
        ensure_ascii=bool(ensure_ascii),
        indent=indent,
        separators=separators,
        sort_keys=bool(sort_keys),
    )


def join_parts(separator: str, parts: Iterable[Any]) -> str:
    texts, size = [], 0
    for part in parts:
        size += measure(part) + len(separator)
        check(size <= 2 * MAX_VALUE_CHARS, "a text is too long")
        texts.append(str(part))
    return separator.join(texts)


@pass_context
def join(context: Context, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(filters.make_attrgetter(context.environment, attribute), value)
    return join_parts(str(d), value)


def replace(text: Any, old: Any, new: Any, count: int | None = -1) -> str:
    subject, gone, come = string(text), string(old), string(new)
    growth = subject.count(gone) * max(0, len(come) - len(gone))
    check(len(subject) + growth <= MAX_VALUE_CHARS, "a text is too long")
    return subject.replace(gone, come, -1 if count is None else int(count))


def format_text(pattern: str, *args: Any, **kwargs: Any) -> str:
    """`str.format` with plain fields alone: {}, {0}, {name}."""
    for hidden in ("_loop_vars", "_block_vars"):  # jinja's own
        kwargs.pop(hidden, None)
    size, automatic = len(pattern), 0
    for _, name, spec, conversion in Formatter().parse(pattern):
        if name is None:
            continue
        if spec or conversion or not (name == "" or name.isidentifier() or name.isdigit()):
            raise SecurityError(f"the template uses a format field other than {{}}: {name!r}")
        if name == "" or name.isdigit():
            size += measure(args[int(name) if name else automatic])
            automatic += 1
        else:
            size += measure(kwargs[name])
        check(size <= MAX_VALUE_CHARS, "a text is too long")
    return pattern.format(*args, **kwargs)


def indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = string(text)
    width_len = len(width) if isinstance(width, str) else int(width)
    check(0 <= width_len <= MAX_INDENT, "an indent is too large")
    check(len(text) + (text.count("\n") + 1) * width_len <= MAX_VALUE_CHARS, "a text is too long")
    indented: str = filters.do_indent(text, width, first, blank)
    return indented


def rounded(value: Any, precision: int = 0, method: Any = "common") -> float:
    check(abs(int(precision)) <= 16, "a precision is too large")
    return filters.do_round(value, precision, method)


def bounded_range(*args: int) -> range:
    values = range(*args)
    check(len(values) <= MAX_RANGE, f"a range is longer than {MAX_RANGE}")
    return values


@pass_context
def bounded_dict(context: Context, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    return built(context, dict(*args, **kwargs))  # type: ignore[no-any-return]


class PlainNamespace(Namespace):
    """A namespace whose names are the template's own, never Python's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = dict(*args, **kwargs)
        for name in values:
            PlainNamespace._check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        PlainNamespace._check_name(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check_name(name: Any) -> None:
        if not isinstance(name, str) or name.startswith("_"):
            raise SecurityError(f"the template may not store {name!r} in a namespace")


def raise_exception(message: Any) -> None:
    raise TemplateError(string(message)[:2000])


def product_size(left: Any, right: Any) -> int:
    if isinstance(left, str | list | tuple) and isinstance(right, int):
        return measure(left) * max(right, 0)
    if isinstance(right, str | list | tuple) and isinstance(left, int):
        return measure(right) * max(left, 0)
    return 0


_FORMAT = re.compile(r"%[#0+ -]*\d{0,2}(?:\.\d{0,2})?[sdifgeEGxXrc%]")


def check_format(pattern: str, values: Any) -> None:
    if isinstance(values, Mapping) or "%" in _FORMAT.sub("", pattern):
        raise SecurityError("the template uses a format other than %s, %d and %f")
    size = len(pattern) * 100 + sum(map(measure, values if isinstance(values, tuple) else [values]))
    check(size <= MAX_VALUE_CHARS, "a text is too long")
