"""`firefront plan show`: a model's plan, op by op, with the cost of one step."""


import typer

app = typer.Typer(
    help="Look at a model's plan.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Look at a model's plan: the ops that one step runs."""


@app.command()
def show(
    spec: str = typer.Argument(help="model name or spec"),
    tokens: int = typer.Option(1, min=1, max=65536, help="tokens each sequence adds in the step"),
    sequences: int = typer.Option(1, min=1, max=4096, help="sequences in the step"),
    context: int = typer.Option(0, min=0, help="tokens each has in the cache after the step"),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """Print the plan of a model and what each op costs in one step."""
    from firefront.cli.output import print_json
    from firefront.models import trace_model
    from firefront.ops import Sizes
    from firefront.plan.show import plan_dict, plan_text
    from firefront.weights import fetch
    from firefront.weights.checkpoint import bytes_per_weight, open_checkpoint
    from firefront.weights.progress import default_progress

    with open_checkpoint(fetch.resolve(spec, progress=default_progress())) as checkpoint:
        config = checkpoint.config
        scheme_of = bytes_per_weight(checkpoint)
    plan = trace_model(config)
    length = max(context, tokens)
    sizes = Sizes((tokens,) * sequences, (length,) * sequences, num_rows=sequences)

    if as_json:
        print_json(plan_dict(plan, sizes, scheme_of))
    else:
        print(plan_text(plan, sizes, scheme_of))
