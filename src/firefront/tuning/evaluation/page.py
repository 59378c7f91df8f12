"""An evaluation's record as parts of a report: verdict, scores, labels, confusions, wrong rows.

Pure: a record in, sections out. Rows are shown as they are; the report escapes them.
"""

from collections.abc import Sequence
from html import escape

from firefront.tuning.evaluation.compare import Comparison
from firefront.tuning.evaluation.gate import PerplexityProbe, Probe
from firefront.tuning.evaluation.labels import Confused, LabelReport
from firefront.tuning.evaluation.record import EvalRecord, ModelResult, Outcome
from firefront.tuning.plots import bar_plot
from firefront.tuning.report import (
    Content,
    Html,
    Section,
    bullets,
    markup,
    page,
    paragraph,
    preformatted,
    table,
)

MAX_WRONG = 25
MAX_MATRIX = 30  # labels; more are shown as their commonest confusions
MAX_PAIRS = 40
MAX_WORST = 15
Row = list[Content | float | None]


def record_page(record: EvalRecord) -> str:
    """The whole report of one evaluation."""
    title = f"Evaluation of {record.model.name}"
    constrained = ", answers held to their form" if record.is_constrained else ""
    subtitle = (
        f"{record.data.name} (SHA-256 {record.data.sha256[:12]}), {len(record.rows)} rows of kind "
        f"{record.kind}{constrained}, {record.created}"
    )
    return page(title, record_sections(record), subtitle)


def record_sections(record: EvalRecord) -> list[Section]:
    """For a page of its own or a larger report."""
    sections = [_scores(record)]
    if record.comparison is not None and record.against is not None:
        sections.insert(0, _verdict(record, record.comparison, record.against))
    if record.probes:
        sections.append(Section("What it may have forgotten", [_probes(record.probes)]))
    if (labels := record.model.report.labels) is not None:
        before = record.against.report.labels if record.against is not None else None
        sections.append(Section("Labels", _labels(labels, before)))
        sections.append(Section("Confusion table", _confusion(labels)))
    if (fields := record.model.report.fields) is not None:
        header = ["field", "wanted", "given", "right", "precision", "recall", "F1"]
        lines: list[Row] = [
            [f.field, f.wanted, f.given, f.right, f.precision, f.recall, f.f1]
            for f in (*fields.fields, fields.micro)
        ]
        lines[-1][0] = "all"
        sections.append(Section("Fields", [table(header, lines)]))
    sections.append(Section("Cost", [_costs(record)]))
    sections.append(Section("Wrong rows", _wrong(record)))
    return sections


def _verdict(record: EvalRecord, found: Comparison, against: ModelResult) -> Section:
    kind = {"better": "good", "worse": "bad"}.get(found.verdict, "")
    content: list[Content] = [
        paragraph(f"{found.verdict.capitalize()} than {against.name}"
                  if found.verdict in ("better", "worse")
                  else f"{found.verdict.capitalize()} between it and {against.name}",
                  f"verdict {kind}"),
        paragraph(
            f"{record.main}: {found.tuned:.4f} against {found.base:.4f}, a difference of "
            f"{found.difference:+.4f} (95 % between {found.interval.low:+.4f} and "
            f"{found.interval.high:+.4f}) on {found.num_rows} rows."
        ),
    ]  # fmt: skip
    if (test := found.mcnemar) is not None:
        content.append(
            paragraph(
                f"Only it is right on {test.only_tuned} rows, only the other on {test.only_base}: "
                f"p = {test.p_value:.2g} by McNemar's test ({test.method})."
            )
        )
    else:
        content.append(paragraph("The interval is of the mean over rows, by paired bootstrap."))
    if found.rows_needed is not None:
        content.append(
            paragraph(
                "A difference of this size is found four times in five with "
                f"{found.rows_needed} rows.", "quiet",
            )
        )  # fmt: skip
    if record.decision is not None:
        if record.decision.is_promoted:
            content.append(paragraph("The gate lets it pass.", "good"))
        else:
            content += [paragraph("The gate holds it back:", "bad")]
            content.append(bullets(record.decision.reasons))
    return Section("Verdict", content)


def _scores(record: EvalRecord) -> Section:
    results = _results(record)
    names = list(record.model.report.metrics)
    rows: list[Row] = [
        [name, *(result.report.metrics.get(name) for result in results)] for name in names
    ]
    return Section("Scores", [table(["", *(result.name for result in results)], rows)])


def _probes(probes: Sequence[Probe]) -> Html:
    rows: list[Row] = []
    for probe in probes:
        if isinstance(probe, PerplexityProbe):
            rows.append(
                [probe.name, "perplexity", probe.tuned, probe.base,
                 f"{probe.tuned / probe.base - 1:+.1%}", f"at most {probe.max_rise:+.0%}"]
            )  # fmt: skip
        else:
            found = probe.comparison
            rows.append(
                [probe.name, f"score on {found.num_rows} rows", found.tuned, found.base,
                 f"{found.difference:+.4f}", f"at least {-probe.max_loss:+.3f}"]
            )  # fmt: skip
    return table(["on", "what", "it", "the other", "change", "allowed"], rows)


def _labels(labels: LabelReport, before: LabelReport | None) -> list[Content]:
    """The worst labels, as bars and as a table; all of them in the record."""
    worst = sorted(labels.labels, key=lambda label: label.f1)[:MAX_WORST]
    earlier = {label.label: label.f1 for label in before.labels} if before is not None else {}
    header = ["label", "rows", "answers", "precision", "recall", "F1", "F1 of the other"]
    rows: list[Row] = [
        [each.label, each.support, each.predicted, each.precision, each.recall, each.f1,
         earlier.get(each.label)]
        for each in worst
    ]  # fmt: skip
    if before is None:
        header, rows = header[:-1], [row[:-1] for row in rows]
    said = f"The {len(worst)} worst of {len(labels.labels)} labels."
    bars = bar_plot([(each.label, each.f1) for each in worst], "F1 by label")
    return [paragraph(said, "quiet"), bars, table(header, rows)]


def _confusion(labels: LabelReport) -> list[Content]:
    wrong = [pair for pair in labels.confusion if pair.answer != pair.reference]
    if len(labels.labels) <= MAX_MATRIX:
        return [_matrix(labels)]
    said = f"The commonest of {len(wrong)} confusions of {len(labels.labels)} labels."
    rows: list[Row] = [
        [pair.reference, "(no label)" if pair.answer is None else pair.answer, pair.num_rows]
        for pair in wrong[:MAX_PAIRS]
    ]
    return [paragraph(said, "quiet"), table(["should be", "was answered", "rows"], rows)]


def _matrix(labels: LabelReport) -> Html:
    """Right answers on the diagonal; a cell is darker the more of its row it has."""
    names: list[str | None] = [each.label for each in labels.labels]
    if labels.num_other:
        names.append(None)
    counts = {(pair.reference, pair.answer): pair for pair in labels.confusion}
    support = {each.label: each.support for each in labels.labels}
    head = "".join(f"<th>{_name(name)}</th>" for name in names)
    lines = []
    for label in support:
        cells = "".join(_shaded(counts.get((label, name)), support[label]) for name in names)
        lines.append(f"<tr><th>{_name(label)}</th>{cells}</tr>")
    return Html(
        '<p class="quiet">Rows: what it should be. Columns: what was answered.</p>'
        f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'
    )


def _name(label: str | None) -> Html:
    return markup("(no label)" if label is None else label[:40])


def _shaded(pair: Confused | None, of: int) -> str:
    if pair is None:
        return "<td></td>"
    colour = "5, 150, 105" if pair.reference == pair.answer else "217, 119, 6"
    style = f"background: rgba({colour}, {0.1 + 0.6 * pair.num_rows / of:.2f})"
    return f'<td class="number" style="{escape(style)}">{pair.num_rows}</td>'


def _costs(record: EvalRecord) -> Html:
    results = _results(record)
    at_once = [str(result.costs.streams or "many") for result in results]
    lines: list[tuple[str, Row]] = [
        ("tokens of prompts", [result.costs.num_prompt for result in results]),
        ("tokens of answers", [result.costs.num_output for result in results]),
        ("tokens a row", [result.costs.tokens_per_row for result in results]),
        ("seconds", [result.costs.wall_s for result in results]),
        ("questions at once", list(at_once)),
        ("latency, median, s", [result.costs.latency_p50_s for result in results]),
        ("latency, 95 %, s", [result.costs.latency_p95_s for result in results]),
        ("answers cut off", [result.costs.num_cut for result in results]),
        ("questions refused", [result.costs.num_failed for result in results]),
        ("dollars", [result.costs.dollars for result in results]),
    ]
    rows: list[Row] = [[name, *values] for name, values in lines]
    return table(["", *(result.name for result in results)], rows)


def _wrong(record: EvalRecord) -> list[Content]:
    """The rows with the lowest scores, with what the other model said."""
    scored = [
        (outcome.score if outcome.score is not None else 0.0, i)
        for i, outcome in enumerate(record.model.outcomes)
    ]
    wrong = [i for score, i in sorted(scored) if record.kind == "perplexity" or score < 1]
    said = f"{min(len(wrong), MAX_WRONG)} of {len(wrong)} rows that are not wholly right."
    header = ["line", "question", "right answer", record.model.name]
    rows: list[Row] = []
    for i in wrong[:MAX_WRONG]:
        row, outcome = record.rows[i], record.model.outcomes[i]
        cells: Row = [row.line, preformatted(row.question)]
        cells += [preformatted(row.reference), _said(outcome)]
        if record.against is not None:
            cells.append(_said(record.against.outcomes[i]))
        rows.append(cells)
    if record.against is not None:
        header.append(record.against.name)
    return [paragraph(said, "quiet"), table(header, rows)] if wrong else [paragraph("None.")]


def _said(outcome: Outcome) -> Content:
    if outcome.error is not None:
        return paragraph(f"refused: {outcome.error}", "bad")
    kind = "" if outcome.score is None else "good" if outcome.score == 1 else "bad"
    return Html(f'<div class="{kind}">{preformatted(outcome.answer)}</div>')


def _results(record: EvalRecord) -> list[ModelResult]:
    return [record.model] if record.against is None else [record.model, record.against]
