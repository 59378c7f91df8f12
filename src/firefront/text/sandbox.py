"""The jinja environment of chat templates: plain data, few names, bounded work.

Owns what a template may touch. Does not know messages or tokens.
Invariant: every loop, call, operator and output spends from one budget, and every value is measured
before it is built. A template that holds the thread in one long expression is stopped only by the
caller's process, so hostile ones are rendered in a worker.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import filters, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from firefront.text import bounds
from firefront.text.bounds import check

_STR_METHODS = frozenset(
    "capitalize count endswith find index isalnum isalpha isdigit islower isspace isupper join "
    "lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit "
    "rstrip split splitlines startswith strip title upper".split()
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
_BOUNDED_METHODS: dict[str, Callable[..., str]] = {
    "replace": bounds.replace,
    "join": bounds.join_parts,
}
_FILTERS = (
    "abs capitalize count d default dictsort e escape first float int items last length list lower "
    "map max min reject rejectattr reverse safe select selectattr sort title trim unique upper"
).split()


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
            finalize=bounds.printed,
            optimized=False,
            cache_size=0,
        )
        self.filters = {name: filters.FILTERS[name] for name in _FILTERS} | {
            "string": bounds.string,
            "tojson": bounds.tojson,
            "join": bounds.join,
            "replace": bounds.replace,
            "indent": bounds.indent,
            "round": bounds.rounded,
            " ticked": bounds.ticked,
            " built": bounds.built,
            " concat": bounds.concat,
        }
        self.globals = {
            "range": bounds.bounded_range,
            "dict": bounds.bounded_dict,
            "namespace": bounds.PlainNamespace,
            "raise_exception": bounds.raise_exception,
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

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if getattr(value, "__name__", "") != "format":
            return None
        pattern = getattr(value, "__self__", None)
        return partial(bounds.format_text, pattern) if isinstance(pattern, str) else None

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902, N805
        bounds.spend(__context)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in _BOUNDED_METHODS:
            # jinja adds these for functions that ask for the context.
            for hidden in ("_loop_vars", "_block_vars"):
                kwargs.pop(hidden, None)
            return _BOUNDED_METHODS[name](owner, *args, **kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        bounds.spend(context)
        if operator == "**":
            check(
                isinstance(right, int | float) and abs(right) <= bounds.MAX_POWER,
                "a power is too large",
            )
        elif operator == "*":
            check(
                bounds.product_size(left, right) <= bounds.MAX_VALUE_CHARS,
                "a repetition is too long",
            )
        elif operator == "%" and isinstance(left, str):
            bounds.check_format(left, right)
        elif operator == "+" and isinstance(left, str | list | tuple):
            if isinstance(right, str | list | tuple):
                check(len(left) + len(right) <= bounds.MAX_VALUE_CHARS, "a text is too long")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int):
            check(result.bit_length() <= bounds.MAX_INT_BITS, "a number is too large")
        return result


def _filtered(value: nodes.Expr, name: str, args: list[nodes.Expr]) -> nodes.Filter:
    # Names with a space: no template can call, or be confused with, these filters.
    return nodes.Filter(value, name, args, [], None, None, lineno=value.lineno)


class _Metering(NodeTransformer):
    """Routes what jinja compiles to plain Python through the functions above."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
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
