"""Chat templates: what they may do, what they may not, and that bombs go off in under a second."""

# ruff: noqa: E501

import ast
import datetime
from pathlib import Path
from typing import Any

import pytest

from firefront.core.errors import ModelFileError, RequestError
from firefront.text.template import MAX_TEMPLATE_CHARS, ChatTemplate

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "yes"},
]


def render(text: str, messages: Any = MESSAGES, **options: Any) -> str:
    now = lambda: datetime.datetime(2026, 3, 4, 5, 6)  # noqa: E731
    return ChatTemplate({"default": text}, "model.gguf", {"bos_token": "<s>"}, now=now).render(
        messages, **options
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ bos_token }}{{ messages[0].role }}{{ messages[0]['content'] }}", "<s>userhello"),
        ("{% for m in messages %}{{ loop.index }}{{ loop.last }} {% endfor %}", "1False 2True "),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}"
         "{% endfor %}", "yes"),
        ("{% for m in messages %}{{ loop.length }}{{ loop.previtem is defined }}"
         "{{ loop.nextitem.role if loop.nextitem is defined }}{% endfor %}", "2Falseassistant2True"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "hello"),
        ("{% for k, v in {'a': 1, 'b': [1, 2]}.items() %}{{ k }}{{ v }}{% endfor %}", "a1b[1, 2]"),
        ("{% for x in nothing %}a{% else %}empty{% endfor %}", "empty"),
        ("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}"
         "{{ ns.n }}", "10"),
        ("{% macro f(x, y='!') %}<{{ x ~ y }}>{% endmacro %}{{ f('a') }}{{ f(x=1, y=2) }}",
         "<a!><12>"),
        ("{{ {'b': 'é<&>', 'a': [1, none, true]} | tojson }}",
         '{"b": "é<&>", "a": [1, null, true]}'),
        ("{{ ['é'] | tojson(ensure_ascii=True, indent=1) }}", '[\n "\\u00e9"\n]'),
        ("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}",
         '{"a":2,"b":1}'),
        ("{{ strftime_now('%d %b %Y') }}", "04 Mar 2026"),
        ("{{ messages | map(attribute='content') | join(', ') }}", "hello, yes"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ messages[::-1][0].content }}{{ messages[1:] | length }}{{ (1, 2)[-1] }}", "yes12"),
        ("{{ 'a-b'.split('-')[1].upper() + ' x '.strip() }}{{ 'abc'.replace('b', 'bb') }}",
         "Bxabbc"),
        ("{{ 'x' * 3 }}{{ '%s=%03d' % ('a', 7) }}{{ 2 ** 8 }}{{ 7 // 2 }}{{ 7 % 4 }}",
         "xxxa=00725633"),
        ("{{ 'a\nb' | indent(2) }}|{{ x | default('d') }}|{{ ' t ' | trim }}", "a\n  b|d|t"),
        ("{% for x in 'ab' %}{{ x.replace('a', 'c') }}{{ '-'.join([x, x]) }}{% endfor %}",
         "ca-abb-b"),
        ("{% for x in 'a' %}{{ '<{}:{n}>{{'.format(x, n=2) }}{{ '{0}{0}'.format(x) }}{% endfor %}",
         "<a:2>{aa"),
        ("{% if messages[0].tool_calls is defined and messages[0].tool_calls %}a{% else %}b"
         "{% endif %}{{ messages[0].get('x', 'y') }}", "by"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x }}{{ dict(a=1)['a'] }}", "a11"),
        ("{{ tools is none }}{{ add_generation_prompt }}", "TrueTrue"),
        ("{{ 'yes' if 'ell' in messages[0].content and 'q' not in 'abc' else 'no' }}", "yes"),
    ],
)  # fmt: skip
def test_what_real_templates_do_works(text: str, expected: str) -> None:
    assert render(text) == expected


def test_kwargs_are_scalars_with_known_names() -> None:
    text = "{{ enable_thinking }}"
    assert render(text, kwargs={"enable_thinking": False}) == "False"
    for kwargs in (
        {"tokenize": True}, {"messages": []}, {"chat_template": "x"}, {"tools": 1}, {"bos_token": ""},
        {"max_output_bytes": 1}, {" budget": 1}, {"enable_thinking": {}}, {"enable_thinking": [1]},
        {"date_string": "x" * 5000},
    ):  # fmt: skip
        with pytest.raises(RequestError, match="chat_template_kwargs"):
            render(text, kwargs=kwargs)


def test_the_templates_own_refusal_reaches_the_user() -> None:
    with pytest.raises(RequestError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(RequestError, match="missing"):
        render("{{ messages[0].missing.content }}")
    with pytest.raises(RequestError, match="cannot render these messages"):
        render("{{ 'x' + messages[0].content }}", [{"role": "user", "content": None}])


@pytest.mark.parametrize(
    "text", ["{% for %}", "{{ 'x' | nofilter }}", "{% include 'x' %}", "{{ " + "(" * 5000, "x" * (MAX_TEMPLATE_CHARS + 1)]
)  # fmt: skip
def test_a_broken_template_names_the_file(text: str) -> None:
    with pytest.raises((ModelFileError, RequestError)) as caught:
        render(text)
    if "include" not in text:
        assert "model.gguf: chat_template" in str(caught.value)


SSTI = [
    "{{ ''.__class__ }}", "{{ ''['__class__'] }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ().__class__.__base__.__subclasses__() }}", "{{ [].__class__.__bases__[0] }}",
    "{{ {}.__class__.__init__.__globals__ }}", "{{ messages.__class__ }}",
    "{{ messages[0].__init__ }}", "{{ messages.append(1) }}", "{{ messages.clear() }}",
    "{{ messages[0].update({'a': 1}) }}", "{{ messages[0].pop('role') }}",
    "{{ messages[0].setdefault('x', 1) }}", "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}", "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}", "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ namespace.__init__.__globals__ }}", "{{ namespace(__class__=1) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{{ range.__class__.__mro__ }}", "{{ dict.__mro__ }}", "{{ dict.__subclasses__() }}",
    "{{ raise_exception.__globals__ }}", "{{ strftime_now.__globals__ }}",
    "{{ strftime_now.__closure__ }}", "{{ '{0.__class__}'.format('') }}", "{{ '{0[__class__]}'.format('') }}",
    "{{ '{!r:}'.format(range) }}", "{{ '{}'.format(raise_exception) }}", "{{ ''.format.__globals__ }}",
    "{{ ''.format.func }}", "{{ ''.format.args }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}", "{{ ''|attr('__class__') }}",
    "{{ ''|attr('format')('x') }}", "{{ messages|map(attribute='__class__')|list }}",
    "{{ messages|map(attribute='__class__.__mro__')|first }}", "{{ ['x']|map('attr', '__class__')|list }}",
    "{{ messages|selectattr('__class__')|list|tojson }}{{ raise_exception('blocked') }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% else %}{{ y.z }}{% endfor %}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m.__class__ }}", "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{{ loop.__class__ }}", "{% for m in messages %}{{ loop._iterator }}{% endfor %}",
    "{% for m in messages %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% import 'os' as os %}{{ os.system('id') }}", "{% include '/etc/passwd' %}", "{% extends 'x' %}",
    "{{ get_flashed_messages.__globals__ }}", "{{ config.items() }}", "{{ request.application }}",
    "{{ (messages|string).__class__ }}", "{{ messages|xmlattr }}", "{{ messages|pprint }}",
    "{{ (messages|groupby('role'))[0].__class__ }}", "{{ ''.encode }}{{ ''.encode('utf-8').__class__ }}",
    "{{ raise_exception }}", "{{ range }}", "{{ namespace(a=1) }}", "{{ (1).__class__ }}{{ 1 .real.__class__ }}",
    "{{ x.__class__.__init__ }}", "{{ x|default(self) }}", "{{ messages[0].items().__class__ }}",
]  # fmt: skip


@pytest.mark.parametrize("payload", SSTI)
def test_no_template_reaches_python(payload: str) -> None:
    messages = [dict(message) for message in MESSAGES]
    with pytest.raises((ModelFileError, RequestError)):
        text = render(payload, messages)
        # An undefined value prints as nothing, which gives nothing away.
        assert text.replace("Undefined", "").strip("[], ") == "", text
        raise RequestError("nothing printed")
    assert messages == MESSAGES


DOUBLING = "{% set x %}{{ x }}{{ x }}{% endset %}"
BOMBS = [
    "{{ 'a' * 10**9 }}", "{{ 10**9 * 'a' }}", "{{ ['a'] * 10**9 }}", "{{ range(10**9)|list }}",
    "{% for i in range(10**9) %}x{% endfor %}", "{{ 9**9**9**9 }}", "{{ (2**64)**64**64 }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
    "{{ ns.s }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = {'a': ns.s, 'b': ns.s} %}"
    "{% endfor %}{{ ns.s|tojson }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = dict(a=ns.s, b=ns.s) %}"
    "{% endfor %}{{ ns.s|string }}",
    "{% set ns = namespace(s=2) %}{% for i in range(99) %}{% set ns.s = ns.s * ns.s %}{% endfor %}",
    "{% set ns = namespace(s='aa') %}{% for i in range(60) %}"
    "{% set ns.s = ns.s|replace('a', 'aa') %}{% endfor %}",
    "{% set ns = namespace(s='aa') %}{% for i in range(60) %}"
    "{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}",
    "{% set ns = namespace(s='aa') %}{% for i in range(60) %}"
    "{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
    "{% set ns = namespace(s='aa') %}{% for i in range(60) %}"
    "{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}",
    "{% set ns = namespace(s='aa') %}{% for i in range(60) %}"
    "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
    "{% set x = 'aa' %}" + DOUBLING * 60, "{{ 'a'.ljust(10**9) }}", "{{ 'a'.zfill(10**9) }}",
    "{{ 'a'.center(10**9) }}", "{{ 'a'|center(10**9) }}", "{{ '\t'.expandtabs(10**9) }}",
    "{{ '%1000000000d' % 1 }}", "{{ '%.1000000000f' % 1 }}", "{{ '%*d' % (10**9, 1) }}",
    "{{ '{:1000000000}'.format(1) }}", "{{ '%(a)s%(a)s' % {'a': 1} }}", "{{ '{:{}}'.format(1, 10**9) }}",
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}", "{{ 'a\nb'|indent(10**9) }}",
    "{{ [1]|tojson(indent=10**9) }}", "{{ 'x'|wordwrap(1, wrapstring='a' * 10**9) }}",
    "{{ [1]|batch(10**9, 'x')|list }}", "{{ 1|round(10**9) }}", "{{ 'a'|truncate(1, end='b' * 10**9) }}",
    "{{ lipsum(n=10**6) }}", "{{ messages|sum(start='a' * 10**9) }}",
    "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ " + "[" * 200 + "]" * 200 + " }}", "{{ 'a'" + " ~ 'a'" * 3000 + " }}", "{{ 1" + " + 1" * 20000 + " }}",
    "{% if true %}" * 200 + "{% endif %}" * 200, "{{ (" * 400 + "1" + ") }}" * 400,
]  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_bombs_end_soon(bomb: str) -> None:
    try:
        text = render(bomb)
    except (ModelFileError, RequestError):
        pass
    else:
        assert len(text) < 10_000


def test_output_is_capped_while_it_grows() -> None:
    with pytest.raises(ModelFileError, match="passes 1000 bytes"):
        render("{% for i in range(99999) %}xxxxxxxxxx{% endfor %}", max_output_bytes=1000)


def test_a_long_conversation_renders() -> None:
    text = "{% for m in messages %}{{ '<' + m.role + '>\n' + m.content | trim + '\n' }}{% endfor %}"
    many = [{"role": "user", "content": "x" * 4000}] * 2000
    assert len(render(text, many)) == 2000 * 4008


def test_there_is_one_jinja_environment() -> None:
    """No other module renders templates: whoever needs text from one goes through ChatTemplate."""
    sources = Path(__file__).parents[2] / "src" / "firefront"
    makers = {"Environment", "Template", "SandboxedEnvironment", "ImmutableSandboxedEnvironment"}
    found = set()
    for file in sources.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in makers or name == "from_string":
                    found.add(file.relative_to(sources).as_posix())
    assert found == {"text/template.py"}
