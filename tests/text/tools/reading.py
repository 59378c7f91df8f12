"""What a reader makes of a text, cut or whole, added up."""

import random
from dataclasses import dataclass, field

from firefront.core.chat import Tool
from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning
from firefront.text.answer_format import AnswerFormat, answer_format
from tests.text.tools import templates

FORMATS: dict[str, AnswerFormat] = {
    "hermes": answer_format(templates.HERMES, ()),
    "qwen3": answer_format(templates.QWEN3, templates.QWEN_TOKENS),
    "qwen xml": answer_format(templates.QWEN_XML, ()),
    "llama": answer_format(templates.LLAMA, templates.LLAMA_TOKENS),
    "mistral": answer_format(templates.MISTRAL, templates.MISTRAL_TOKENS),
    "mistral args": answer_format(templates.MISTRAL_ARGS, templates.MISTRAL_TOKENS),
    "plain json": answer_format(templates.PLAIN_JSON, ()),
    "generic": answer_format("", ()),
    "gemma": answer_format(templates.GEMMA, ()),
    "deepseek": answer_format(templates.DEEPSEEK, ()),
    "magistral": answer_format("", templates.THINK_TOKENS),
}


@dataclass
class Read:
    """An answer added up."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


def add_up(events: list[Event]) -> Read:
    content, reasoning, order = [], [], []
    names: list[str] = []
    arguments: list[list[str]] = []
    ids = set()
    for event in events:
        match event:
            case Content(text):
                assert text
                content.append(text)
            case Reasoning(text):
                assert text
                reasoning.append(text)
            case CallOpened(index, call_id, name):
                assert index == len(names) and call_id not in ids
                ids.add(call_id)
                names.append(name)
                arguments.append([])
            case CallArguments(index, text):
                assert text and index == len(names) - 1
                arguments[index].append(text)
        kind = type(event).__name__
        if not order or order[-1] != kind:
            order.append(kind)
    calls = list(zip(names, map("".join, arguments), strict=True))
    return Read("".join(content), "".join(reasoning), calls, order)


def read_pieces(
    answers: AnswerFormat,
    pieces: list[str],
    *,
    tools: tuple[Tool, ...] = templates.TOOLS,
    in_thought: bool = False,
) -> Read:
    reader = answers.reader(with_tools=bool(tools), in_thought=in_thought, tools=tools)
    events = [event for piece in pieces for event in reader.push(piece)]
    return add_up(events + reader.finish())


def read_whole(answers: AnswerFormat, text: str, **options: object) -> Read:
    """The reading of a text, which is the same however it is cut."""
    whole = read_pieces(answers, [text], **options)  # type: ignore[arg-type]
    assert read_pieces(answers, list(text), **options) == whole  # type: ignore[arg-type]
    for cut in range(1, len(text)) if len(text) < 200 else ():
        assert read_pieces(answers, [text[:cut], text[cut:]], **options) == whole  # type: ignore[arg-type]
    return whole


def cut_anywhere(text: str, seed: int) -> list[str]:
    source = random.Random(seed)
    cuts = sorted(source.choices(range(len(text) + 1), k=source.randrange(1, 12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
