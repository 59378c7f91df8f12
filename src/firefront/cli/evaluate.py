"""`firefront eval`: how good a model is at a file's rows, and whether another is better."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from firefront.tuning.evaluation.record import EvalRecord


def evaluate(
    data: Path = typer.Argument(help="rows (.jsonl), or a text for perplexity and needle"),
    model: str = typer.Option("starter", help="name or spec"),
    adapter: str | None = typer.Option(None, help="adapter: its name or its folder"),
    against: str | None = typer.Option(
        None,
        help="compare with: base (the model without its adapter), another model, or a record that "
        "--save wrote of the same rows (.json)",
    ),
    url: str | None = typer.Option(None, help="a running server instead of this process"),
    kind: str | None = typer.Option(
        None,
        help="classification, extraction, exact, tool_calls, text, graded, perplexity or needle; "
        "found from the rows otherwise",
    ),
    forget: list[Path] = typer.Option(
        [], help="a text or .jsonl that the model must not be worse on; may be repeated"
    ),
    limit: int | None = typer.Option(None, min=1, help="so many rows at most, drawn by --seed"),
    seed: int = typer.Option(0, min=0, help="of what is drawn"),
    constrain: bool = typer.Option(
        False, help="hold answers to the labels, to the fields' schema, or to a call"
    ),
    judge: str | None = typer.Option(None, help="model that grades (kind graded)"),
    judge_url: str | None = typer.Option(None, help="a server that has the judge"),
    rubric: Path | None = typer.Option(None, help="file that says what a good answer is"),
    streams: int | None = typer.Option(None, min=1, help="questions at once"),
    threads: int = typer.Option(0, min=0, help="compute threads; 0: chosen from the machine"),
    save: Path | None = typer.Option(None, help="write the record of all rows, JSON, here"),
    report: Path | None = typer.Option(None, help="write a report, HTML, here"),
    as_json: bool = typer.Option(False, "--json", help="print the record as JSON"),
) -> None:
    """Score a model's answers to the rows of a file; compare it with another on the same rows.

    The last message of a row is the right answer, what is before it the question. Answers are
    greedy. FIREFRONT_API_KEY is the key of servers.
    """
    import os

    import msgspec

    from firefront.cli.output import print_json
    from firefront.cli.progress import StageProgress
    from firefront.core.errors import RequestError
    from firefront.tuning.evaluation.evaluate import EvalSpec, run_evaluation
    from firefront.tuning.evaluation.page import record_page
    from firefront.tuning.evaluation.perplexity import read_text
    from firefront.tuning.evaluation.record import write_record
    from firefront.tuning.line_files import replacing

    try:
        spec = msgspec.convert(
            {
                "data": str(data), "model": model, "adapter": adapter, "against": against,
                "url": url, "kind": kind, "forget": [str(path) for path in forget],
                "limit": limit, "seed": seed, "is_constrained": constrain, "streams": streams,
                "threads": threads, "judge": judge, "judge_url": judge_url,
                "rubric": read_text(rubric) if rubric is not None else "",
            },
            EvalSpec,
        )  # fmt: skip
    except msgspec.ValidationError as error:
        raise RequestError(f"--kind {kind}: {error}", param="kind") from None
    with StageProgress() as progress:
        record = run_evaluation(
            spec,
            lambda event: progress.show(event.stage, event.done, event.total),
            key=os.environ.get("FIREFRONT_API_KEY"),
        )
    if save is not None:
        write_record(record, save)
    if report is not None:
        with replacing(report) as file:
            file.write(record_page(record).encode())
    if as_json:
        print_json(record)
    else:
        _print(record)


def _print(record: "EvalRecord") -> None:
    from firefront.cli.output import print_pairs, print_table

    results = [record.model] if record.against is None else [record.model, record.against]
    rows = [
        (name, *(f"{result.report.metrics.get(name, float('nan')):.4f}" for result in results))
        for name in record.model.report.metrics
    ]
    costs = [result.costs for result in results]
    rows += [
        ("tokens a row", *(f"{cost.tokens_per_row:.1f}" for cost in costs)),
        ("latency p50, s", *(f"{cost.latency_p50_s:.3f}" for cost in costs)),
        ("seconds", *(f"{cost.wall_s:.1f}" for cost in costs)),
    ]
    for name, numbers in (
        ("cut off", [cost.num_cut for cost in costs]),
        ("refused", [cost.num_failed for cost in costs]),
    ):
        if any(numbers):
            rows.append((name, *map(str, numbers)))
    print_table((f"{record.kind}, {len(record.rows)} rows", *(r.name for r in results)), rows)
    if record.comparison is None or record.decision is None:
        return
    found = record.comparison
    by = "bootstrap" if found.mcnemar is None else f"McNemar, p = {found.mcnemar.p_value:.2g}"
    print()
    print_pairs(
        [
            ("verdict", f"{found.verdict} ({by})"),
            (record.main, f"{found.difference:+.4f}, 95 % between {found.interval.low:+.4f} and "
                          f"{found.interval.high:+.4f}"),
            ("gate", "passes" if record.decision.is_promoted else "holds it back"),
        ]
    )  # fmt: skip
    for reason in record.decision.reasons:
        print(f"  {reason}")
