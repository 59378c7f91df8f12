"""Reports as one page of HTML: parts in, page out.

Owns escaping and the look; knows nothing of what is reported. Invariants: text that is not `Html`
is escaped wherever it goes, so rows may hold anything; the page runs no script and loads nothing.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

MAX_TEXT = 2000  # characters of a cell


class Html(str):
    """Markup that is ours."""

    __slots__ = ()


Content = str | Html


class Section(NamedTuple):
    """A part of a page with a heading; `content` is made by the functions below."""

    title: str
    content: Sequence[Content]


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #18794e; --bad: #c4320a;
  --a: #2563eb; --b: #d97706; --c: #059669; --d: #9333ea }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff8b6b; --a: #7aa2ff;
  --b: #f5b04c; --c: #4cc38a; --d: #c792ea } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem .25rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
th { font-weight: 600 } td.number, th.number { text-align: right; white-space: nowrap }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.4 ui-monospace,
  monospace } .scroll { overflow-x: auto } .good { color: var(--good) } .bad { color: var(--bad) }
.verdict { font-size: 1.15rem; font-weight: 600 } .quiet { opacity: .7 }
svg { max-width: 100%; height: auto } svg text { fill: currentColor; font: 12px system-ui }
"""


def page(title: str, sections: Iterable[Section], subtitle: str = "") -> str:
    """The whole document."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{markup(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{markup(title)}</h1>",
        f'<p class="quiet">{markup(subtitle)}</p>' if subtitle else "",
    ]
    for section in sections:
        parts.append(f"<section><h2>{markup(section.title)}</h2>")
        parts += [markup(part) for part in section.content]
        parts.append("</section>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def markup(content: Content) -> Html:
    """`content` as it may stand in a page. Characters that no page may hold become U+FFFD."""
    if isinstance(content, Html):
        return content
    text = content if len(content) <= MAX_TEXT else content[:MAX_TEXT] + " ..."
    return Html(escape(text.translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")))


_CONTROL = {
    code: 0xFFFD
    for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n\r"
}


def paragraph(content: Content, kind: str = "") -> Html:
    """`kind`: good, bad, verdict, quiet, several with spaces."""
    return Html(f'<p class="{markup(kind)}">{markup(content)}</p>')


def preformatted(text: str) -> Html:
    return Html(f"<pre>{markup(text)}</pre>")


def bullets(items: Iterable[Content]) -> Html:
    return Html("<ul>" + "".join(f"<li>{markup(item)}</li>" for item in items) + "</ul>")


def table(header: Sequence[str], rows: Iterable[Sequence[Content | float | None]]) -> Html:
    """Numbers stand to the right: whole ones as they are, others with four digits; None is
    empty."""
    body = [[_cell(cell) for cell in row] for row in rows]
    numeric = [
        all(row[i][1] for row in body) and bool(body) for i in range(len(header))
    ]
    head = "".join(
        f'<th class="number">{markup(name)}</th>' if is_number else f"<th>{markup(name)}</th>"
        for name, is_number in zip(header, numeric, strict=True)
    )
    lines = [
        "<tr>" + "".join(
            f'<td class="number">{text}</td>' if is_number else f"<td>{text}</td>"
            for text, is_number in row
        ) + "</tr>"
        for row in body
    ]  # fmt: skip
    return Html(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: Content | float | None) -> tuple[Html, bool]:
    """The cell's markup, and whether it stands to the right."""
    if cell is None:
        return Html(""), True
    if isinstance(cell, str):
        return markup(cell), False
    return Html(escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell))), True
