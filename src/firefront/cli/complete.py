"""`firefront complete`: one prompt in, its continuation out, as it comes."""

import sys

import typer


def complete(
    prompt: str = typer.Argument(help="the text to go on with; - reads standard input"),
    model: str | None = typer.Option(None, help="name or spec [default: starter]"),
    url: str | None = typer.Option(None, help="a running server instead of this process"),
    max_tokens: int = typer.Option(128, min=1, help="longest answer"),
    temperature: float = typer.Option(0.0, min=0.0, help="0 is greedy"),
    top_p: float = typer.Option(1.0, min=0.0, max=1.0),
    seed: int | None = typer.Option(None, help="makes sampling repeatable"),
    threads: int = typer.Option(0, min=0, help="compute threads; 0: chosen from the machine"),
    as_json: bool = typer.Option(False, "--json", help="print JSON at the end, nothing before"),
) -> None:
    """Complete one prompt and print the text. Counts and speed go to standard error."""
    from firefront.cli.output import print_json
    from firefront.cli.talk import Turn, connect
    from firefront.core.sampling import SamplingParams

    sampling = SamplingParams(
        temperature=temperature, top_p=top_p, seed=seed, max_tokens=max_tokens
    ).checked()
    text = sys.stdin.read() if prompt == "-" else prompt
    for item in connect(model, url, threads).stream(text, sampling):
        if isinstance(item, Turn):
            if as_json:
                print_json(item.as_dict())
            else:
                print(flush=True)
                print(f"[{item.summary()}]", file=sys.stderr)
        elif not as_json:
            print(item, end="", flush=True)
