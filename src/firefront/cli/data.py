"""`firefront data`: check, cleanse, split and label data sets for tuning."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from firefront.core.chat import Constraint
    from firefront.tuning.estimate import ModelCheck
    from firefront.tuning.findings import Action, Finding

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_FILE = typer.Argument(help="JSONL: OpenAI's chat or preference format, or prompt and completion")
_VALID = typer.Option(None, "--valid", help="validation file: its rows may not be among FILE's")
_MODEL = typer.Option(None, help="count tokens and check each row as this model sees it")
_MAX_LEN = typer.Option(None, min=8, help="most tokens of a row [default: the model's context]")
_SIMILARITY = typer.Option(0.85, help="share of shingles from which rows are near duplicates")
_SEED = typer.Option(0, min=0)
_SHOW = typer.Option(10, min=0, help="findings of each kind to print")
_JSON = typer.Option(False, "--json", help="print the manifest as JSON, nothing else")


@app.callback()
def root() -> None:
    """Check, cleanse, split and label data sets for tuning."""


@app.command()
def check(
    file: Path = _FILE,
    valid: Path | None = _VALID,
    model: str | None = _MODEL,
    max_len: int | None = _MAX_LEN,
    epochs: float = typer.Option(1.0, help="for the estimate"),
    tokens_per_s: float | None = typer.Option(None, help="measured speed, for the estimate"),
    price: float | None = typer.Option(None, help="of an hour of the machine, for the estimate"),
    similarity: float = _SIMILARITY,
    seed: int = _SEED,
    show: int = _SHOW,
    as_json: bool = _JSON,
) -> None:
    """Say what is wrong with a data set; status 1 if some rows cannot be learned."""
    from dataclasses import asdict

    from firefront.cli.output import print_json, print_pairs
    from firefront.tuning.cleanse import decide, manifest
    from firefront.tuning.estimate import estimate
    from firefront.tuning.inspection import inspect

    seen = _model_check(model, max_len)
    inspection = inspect(
        file, valid, similarity=similarity, seed=seed, check=seen and seen.findings
    )
    record = manifest(inspection, decide(inspection), _settings(similarity, seed, model, seen, {}))
    record["tokens"] = record["estimate"] = None
    if seen is not None:
        tokens = seen.tokens()
        record["tokens"] = asdict(tokens)
        record["estimate"] = asdict(
            estimate(
                tokens.num_tokens, epochs=epochs, tokens_per_s=tokens_per_s, price_per_hour=price
            )
        )
    if as_json:
        print_json(record)
    else:
        _print_findings(inspection.findings, show)
        print_pairs(_summary(record))
    if inspection.problems.total or "unlearnable" in record["found"]:
        raise typer.Exit(1)


@app.command()
def cleanse(
    file: Path = _FILE,
    out: Path | None = typer.Option(None, "--out", "-o", help="where the rows that stay go"),
    valid: Path | None = _VALID,
    model: str | None = _MODEL,
    max_len: int | None = _MAX_LEN,
    drop: list[str] = typer.Option([], help="kind of finding whose rows go, too"),
    keep: list[str] = typer.Option([], help="kind of finding whose rows stay, flagged"),
    similarity: float = _SIMILARITY,
    seed: int = _SEED,
    dry_run: bool = typer.Option(False, "--dry-run", help="write nothing"),
    show: int = _SHOW,
    as_json: bool = _JSON,
) -> None:
    """Write the rows that stay, and beside them OUT.manifest.json: what went and why."""
    from firefront.cli.output import print_json, print_pairs
    from firefront.core.errors import RequestError
    from firefront.tuning import cleanse as cleansing
    from firefront.tuning.inspection import inspect

    if out is None and not dry_run:
        raise RequestError("--out: name a file, or use --dry-run", param="out")
    if out is not None:
        _check_outputs(file, out)
    actions: dict[str, Action] = {
        **{kind: "drop" for kind in drop},
        **{kind: "flag" for kind in keep},
    }
    seen = _model_check(model, max_len)
    inspection = inspect(
        file, valid, similarity=similarity, seed=seed, check=seen and seen.findings
    )
    decision = cleansing.decide(inspection, actions)
    settings = _settings(similarity, seed, model, seen, actions)
    if dry_run or out is None:
        record = cleansing.manifest(inspection, decision, settings)
    else:
        record = cleansing.cleanse(file, out, inspection, decision, settings)
    if as_json:
        print_json(record)
        return
    print("dropped:" if not dry_run else "would be dropped:")
    _print_findings(list(decision.dropped.values()), show)
    print("flagged:")
    _print_findings(decision.flagged, show)
    print_pairs(_summary(record))


@app.command()
def split(
    file: Path = _FILE,
    train: Path | None = typer.Option(None, help="[default: FILE's name with .train]"),
    valid: Path | None = typer.Option(None, help="[default: FILE's name with .valid]"),
    share: float = typer.Option(0.1, help="of the rows of each label, for validation"),
    max_rows: int = typer.Option(1000, min=1, help="most rows for validation"),
    similarity: float = _SIMILARITY,
    seed: int = _SEED,
    as_json: bool = _JSON,
) -> None:
    """Set rows apart for validation: by label, near duplicates on one side."""
    from firefront.cli.output import print_json, print_pairs
    from firefront.tuning import split as splitting
    from firefront.tuning.inspection import inspect

    train = train or file.with_name(f"{file.stem}.train{file.suffix}")
    valid = valid or file.with_name(f"{file.stem}.valid{file.suffix}")
    _check_outputs(file, train, valid)
    inspection = inspect(file, similarity=similarity, seed=seed)
    sides = splitting.split(inspection, share=share, max_rows=max_rows, seed=seed)
    settings = {"share": share, "max_rows": max_rows, "similarity": similarity, "seed": seed}
    record = splitting.write_split(file, inspection, sides, train, valid, settings)
    if as_json:
        print_json(record)
        return
    print_pairs(
        [
            (str(train), f"{record['train']['num_rows']} rows"),
            (str(valid), f"{record['validation']['num_rows']} rows"),
            ("left out", f"{inspection.problems.total} lines that are no rows"),
        ]
    )


@app.command()
def label(
    file: Path = typer.Argument(help="JSONL with messages that end in a question, or prompt"),
    teacher: str = typer.Option(..., help="a model here, or URL#MODEL of one behind OpenAI's API"),
    out: Path = typer.Option(..., "--out", "-o", help="where the rows with answers go"),
    draws: int = typer.Option(3, help="answers for each row; a single one is greedy"),
    agreement: float = typer.Option(0.66, help="share of the draws that must say the same"),
    temperature: float = typer.Option(0.7, help="of the draws"),
    max_tokens: int = typer.Option(256, min=1, help="longest answer"),
    instruction: str | None = typer.Option(
        None, help="system text for the teacher only; @FILE reads it"
    ),
    schema: Path | None = typer.Option(None, help="JSON Schema that each answer must match"),
    choice: list[str] = typer.Option([], help="one of the texts that an answer may be; repeat it"),
    streams: int | None = typer.Option(None, min=1, help="questions at once"),
    threads: int = typer.Option(0, min=0, help="compute threads; 0: chosen from the machine"),
    seed: int = _SEED,
    as_json: bool = _JSON,
) -> None:
    """Have a large model write the answers; what its draws do not agree on is left out.

    Goes on where it stopped. The key of a server is FIREFRONT_API_KEY.
    """
    import os

    from firefront.cli.output import print_json, print_pairs
    from firefront.cli.progress import StageProgress
    from firefront.tuning.evaluation.askers import Askers
    from firefront.tuning.label import LabelConfig
    from firefront.tuning.label import label as write_labels

    _check_outputs(file, out)
    url, model = _teacher(teacher)
    config = LabelConfig(
        draws=draws, agreement=agreement, temperature=temperature, max_tokens=max_tokens,
        instruction=_text_or_file(instruction), constraint=_constraint(schema, choice), seed=seed,
    ).checked()  # fmt: skip
    askers = Askers(url, key=os.environ.get("FIREFRONT_API_KEY"), streams=streams, threads=threads)
    try:
        asker = askers.open(model)
        with StageProgress() as progress:
            record = write_labels(
                file, out, asker, config,
                on_progress=lambda done, total: progress.show("answers", done, total),
            )  # fmt: skip
    finally:
        askers.close()
    if as_json:
        print_json(record)
        return
    rows, tokens = record["rows"], record["tokens"]
    print_pairs(
        [
            ("labelled", f"{rows['labelled']} of {rows['read']} rows"),
            ("left out", f"{rows['dropped']}, see {out.name}.manifest.json"),
            ("agreement", f"{record['mean_agreement']:.0%} on average"),
            ("tokens", f"{tokens['prompt']} read, {tokens['output']} written"),
        ]
    )


def _teacher(text: str) -> tuple[str | None, str]:
    """URL and model; no URL for a model here."""
    from firefront.core.errors import RequestError

    if not text.startswith(("http://", "https://")):
        return None, text
    url, _, model = text.partition("#")
    if not model:
        raise RequestError(f"--teacher {text}: write URL#MODEL", param="teacher")
    return url, model


def _text_or_file(text: str | None) -> str | None:
    return text if text is None or not text.startswith("@") else _read_text(Path(text[1:]))


def _constraint(schema: Path | None, choices: list[str]) -> "Constraint | None":
    from firefront.core.errors import RequestError
    from firefront.text.constraint_fields import of_kind

    if schema is not None and choices:
        raise RequestError("--choice: there is a --schema already; use one", param="choice")
    if schema is not None:
        return of_kind("json", _read_text(schema), "schema")
    return of_kind("choice", choices, "choice") if choices else None


def _read_text(path: Path) -> str:
    from firefront.core.errors import RequestError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: {error}") from None


def _model_check(model: str | None, max_len: int | None) -> "ModelCheck | None":
    """What looks at rows as `model` would; None without a model."""
    from firefront.core.errors import RequestError

    if model is None:
        if max_len is not None:
            raise RequestError("--max-len: needs --model, whose tokens are counted", param="model")
        return None
    from firefront.text.tokenizer import load_tokenizer
    from firefront.tuning.estimate import ModelCheck
    from firefront.weights import fetch
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.progress import default_progress

    path = fetch.resolve(model, progress=default_progress())
    if max_len is None:
        with open_checkpoint(path) as checkpoint:
            max_len = checkpoint.config.max_model_len
    return ModelCheck(load_tokenizer(path), max_len)


def _settings(
    similarity: float,
    seed: int,
    model: str | None,
    seen: "ModelCheck | None",
    actions: "dict[str, Action]",
) -> dict[str, Any]:
    return {
        "similarity": similarity,
        "seed": seed,
        "model": model,
        "max_len": None if seen is None else seen.max_len,
        "actions": actions,
    }


def _check_outputs(file: Path, *outputs: Path) -> None:
    """RequestError unless all paths differ."""
    from firefront.core.errors import RequestError

    paths = [path.resolve() for path in (file, *outputs)]
    if len(set(paths)) < len(paths):
        raise RequestError("--out: must be another file than the one read", param="out")


def _print_findings(findings: "list[Finding]", num: int) -> None:
    """The first of each kind."""
    from collections import Counter

    from firefront.tuning.cleanse import finding_text

    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.kind] += 1
        if counts[finding.kind] <= num:
            print(f"  {finding_text(finding)}")
    for kind, count in counts.items():
        if count > num:
            print(f"  {kind}: {count - num} more")


def _summary(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a manifest, for people."""
    rows, labels = record["rows"], record["labels"]
    lines = [
        ("rows", f"{rows['read']} read, {rows['kept']} stay, {rows['flagged']} of these flagged"),
        ("answers", record["answers"] + (f", {len(labels)} labels" if labels else "")),
        ("found", ", ".join(f"{kind} {n}" for kind, n in record["found"].items()) or "nothing"),
    ]
    if record["leaked"]:
        leaked = record["leaked"]
        lines.append(("leaked", f"{leaked['inputs']} inputs of the validation file"))
    if tokens := record.get("tokens"):
        lines.append(
            ("tokens", f"{tokens['num_tokens']}, {tokens['num_labelled']} of them learned; a row "
             f"{tokens['median']} (median), {tokens['longest']} (longest)")  # fmt: skip
        )
    if (run := record.get("estimate")) and run["seconds"] is not None:
        cost = "" if run["cost"] is None else f", costs {run['cost']:.2f}"
        lines.append(("a run takes", f"{run['seconds'] / 60:.1f} min{cost}"))
    return lines + [("warning", warning) for warning in record["warnings"]]
