"""`firefront chat`: a conversation in the terminal, streamed, with tokens per second."""

import sys
from typing import Any

import typer

HELP = "/reset starts over, /exit or Ctrl-D leaves, Ctrl-C stops an answer"


def chat(
    model: str | None = typer.Option(None, help="name or spec [default: starter]"),
    url: str | None = typer.Option(None, help="a running server instead of this process"),
    system: str | None = typer.Option(None, help="system message"),
    max_tokens: int | None = typer.Option(None, min=1, help="longest answer"),
    temperature: float = typer.Option(0.7, min=0.0, help="0 is greedy"),
    top_p: float = typer.Option(0.95, min=0.0, max=1.0),
    seed: int | None = typer.Option(None, help="makes sampling repeatable"),
    threads: int = typer.Option(0, min=0, help="compute threads; 0: chosen from the machine"),
    as_json: bool = typer.Option(False, "--json", help="one JSON object a line for each answer"),
) -> None:
    """Talk with a model. Messages come from the terminal, or a line each from standard input."""
    from firefront.cli.talk import connect
    from firefront.core.errors import ContextLengthError
    from firefront.core.sampling import SamplingParams

    sampling = SamplingParams(
        temperature=temperature, top_p=top_p, seed=seed, max_tokens=max_tokens
    ).checked()
    talker = connect(model, url, threads)
    first = [{"role": "system", "content": system}] if system else []
    messages = list(first)
    if sys.stdin.isatty():
        print(HELP, file=sys.stderr)
    while (text := _read()) is not None:
        if text == "/exit":
            return
        if text == "/reset":
            messages = list(first)
            continue
        if not text:
            continue
        messages.append({"role": "user", "content": text})
        try:
            answer = _answer(talker, messages, sampling, as_json)
        except ContextLengthError as error:
            print(f"{error}; /reset starts over", file=sys.stderr)
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": answer})


def _read() -> str | None:
    """The next message; None at the end of input."""
    try:
        if sys.stdin.isatty():
            import contextlib

            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - gives input() history and editing
            return input("> ").strip()
        line = sys.stdin.readline()
        return line.strip() if line else None
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return None


def _answer(talker: Any, messages: list[dict[str, str]], sampling: Any, as_json: bool) -> str:
    """Stream one answer; Ctrl-C keeps what has come."""
    import json

    from firefront.cli.talk import Turn

    pieces: list[str] = []
    stream = talker.stream(messages, sampling)
    try:
        for item in stream:
            if isinstance(item, Turn):
                if as_json:
                    print(json.dumps(item.as_dict(), ensure_ascii=False), flush=True)
                else:
                    print(flush=True)
                    print(f"[{item.summary()}]", file=sys.stderr)
                continue
            pieces.append(item)
            if not as_json:
                print(item, end="", flush=True)
    except KeyboardInterrupt:
        stream.close()
        print(file=sys.stderr)
    return "".join(pieces)
