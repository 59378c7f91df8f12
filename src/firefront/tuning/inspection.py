"""One look at a data set: every row's facts and findings, and what only all rows together tell.

Owns the checks over rows: duplicates, near duplicates, conflicts, leaks, imbalance, repeated system
text. Changes nothing; `cleanse` decides. Invariant: the same files and settings give the same
inspection.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from firefront.core.errors import RequestError
from firefront.tuning.facts import Facts, facts_of
from firefront.tuning.findings import Finding, ends_open, findings_of
from firefront.tuning.minhash import DEFAULT_SIMILARITY, MIN_SIMILARITY, Ints, NearText, clusters
from firefront.tuning.rows import Problems, Row, RowReader, open_rows

MAX_RATIO = 50  # rows of the largest label to those of the smallest
MAX_LABELS = 1000
_MOST = 0.95  # of the rows, for what a data set is said to be
_SYSTEM_SHARE = 0.1  # of all text, from where a repeated system text is told
_OPEN_SHARE = 0.2  # of long answers may end openly for such an end to be a sign of a cut

Answers = Literal["labels", "structures", "texts"]


@dataclass(frozen=True)
class Source:
    """A file as it was read."""

    name: str
    sha256: str
    num_bytes: int
    num_rows: int  # lines that are not blank


@dataclass
class Inspection:
    """`facts` has an entry for each row that can be read, in order; `groups` gives each the index
    of the first row that is the same or nearly so, by a chain. `warnings` are of the whole set."""

    source: Source
    facts: list[Facts]
    groups: Ints
    answers: Answers
    findings: list[Finding]
    labels: Counter[str]
    problems: Problems
    ignored: Counter[str]
    warnings: list[str]
    num_repeated: int  # rows whose input stood in an earlier line, whatever the answer
    leaked: Counter[str] = field(default_factory=Counter)  # inputs and rows of the validation file
    validation: Source | None = None


def inspect(
    path: Path,
    validation: Path | None = None,
    *,
    similarity: float = DEFAULT_SIMILARITY,
    seed: int = 0,
    check: Callable[[Row], Iterator[Finding]] | None = None,
) -> Inspection:
    """Look at the rows of `path`, and for leaks at those of `validation`.

    `check` finds what a model has against a row. RequestError for files that cannot be read.
    """
    if not MIN_SIMILARITY <= similarity <= 1:
        raise RequestError(f"similarity: must be from {MIN_SIMILARITY} to 1", param="similarity")
    findings: list[Finding] = []
    endings: list[tuple[int, bool]] = []

    def look(row: Row) -> None:
        findings.extend(findings_of(row))
        if check is not None:
            findings.extend(check(row))
        if (is_open := ends_open(row)) is not None:
            endings.append((row.line, is_open))

    source, facts, reader = _read(path, look)
    other: Source | None = None
    other_facts: list[Facts] = []
    if validation is not None:
        other, other_facts, other_reader = _read(validation, lambda row: None)
        if other_reader.problems.total:
            count = other_reader.problems
            raise RequestError(f"{validation.name}: {count.total} bad rows\n{count.text()}")
    findings += [
        Finding(line=problem.line, kind="invalid", why=problem.message)
        for problem in reader.problems.kept
    ]
    findings += _cut_answers(endings)
    answers = _answers(facts)
    same = _by_input(facts)
    findings += _conflicts(facts, same, answers)
    findings += _duplicates(facts, same)
    findings += _leaks(facts, other_facts)
    near, groups = _near(facts, other_facts, same, answers, similarity, seed)
    findings += near
    leaked = {f.asked for f in other_facts} & same.keys()
    labels = Counter(f.label for f in facts) if _has_labels(facts, answers) else Counter[str]()
    return Inspection(
        source=source,
        facts=facts,
        groups=groups,
        answers=answers,
        findings=sorted(findings, key=lambda f: (f.line, f.kind, f.why)),
        labels=labels,
        problems=reader.problems,
        ignored=reader.ignored,
        warnings=[*_imbalance(labels), *_system_text(facts), *_ignored(reader)],
        num_repeated=len(facts) - len(same),
        leaked=Counter(
            inputs=len(leaked),
            validation_rows=sum(f.asked in leaked for f in other_facts),
            rows=sum(f.asked in leaked for f in facts),
        ),
        validation=other,
    )


def _read(path: Path, look: Callable[[Row], None]) -> tuple[Source, list[Facts], RowReader]:
    with open_rows(path) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        num_bytes = stream.tell()
        stream.seek(0)
        reader = RowReader(stream, path.name)
        facts = []
        for row in reader:
            facts.append(facts_of(row))
            look(row)
    num_rows = len(facts) + reader.problems.total
    if num_rows == 0:
        raise RequestError(f"{path.name}: has no rows", param="training_file")
    return Source(path.name, sha256, num_bytes, num_rows), facts, reader


def _by_input(facts: Sequence[Facts]) -> dict[bytes, list[int]]:
    """For each input the rows that have it, in order."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for i, fact in enumerate(facts):
        same[fact.asked].append(i)
    return same


def _answers(facts: Sequence[Facts]) -> Answers:
    """Whether the rows sort inputs into labels, or answer with values, or with any text."""
    forms = Counter(fact.form for fact in facts)
    labels = {fact.label for fact in facts if fact.form == "label"}
    if facts and forms["label"] >= _MOST * len(facts) and 2 * len(labels) <= len(facts):
        return "labels"
    return "structures" if facts and forms["structure"] >= _MOST * len(facts) else "texts"


def _has_labels(facts: Sequence[Facts], answers: Answers) -> bool:
    names = {fact.label for fact in facts if fact.label}
    return answers != "texts" and 0 < len(names) <= MAX_LABELS


def _conflicts(
    facts: Sequence[Facts], same: dict[bytes, list[int]], answers: Answers
) -> Iterator[Finding]:
    """Rows whose input has another answer elsewhere. Where one answer has the majority, only those
    that deviate; free texts may differ."""
    for rows in same.values():
        given = Counter(facts[i].answered for i in rows)
        lines = {facts[i].answered: facts[i].line for i in reversed(rows)}  # the first of each
        for i in rows:
            against = facts[i].reverse
            if against != facts[i].answered and against in given:
                why = "prefers what another row rejects"
                yield Finding(line=facts[i].line, kind="conflict", why=why, other=lines[against])
        if answers == "texts" or len(given) == 1:
            continue
        (first, num), (_, next_num) = given.most_common(2)
        majority = first if num > next_num else None
        earliest, second = sorted(lines, key=lines.__getitem__)[:2]
        for i in rows:
            if (answer := facts[i].answered) != majority:
                other = lines[second if answer == earliest else earliest]
                why = f"{len(given)} answers to one input, {len(rows)} rows"
                yield Finding(line=facts[i].line, kind="conflict", why=why, other=other)


def _duplicates(facts: Sequence[Facts], same: dict[bytes, list[int]]) -> Iterator[Finding]:
    for rows in same.values():
        seen: dict[bytes, int] = {}
        for i in rows:
            first = seen.setdefault(facts[i].answered, i)
            if first != i:
                yield Finding(
                    line=facts[i].line, kind="duplicate", why="", other=facts[first].line
                )


def _leaks(facts: Sequence[Facts], others: Sequence[Facts]) -> Iterator[Finding]:
    known: dict[bytes, int] = {}
    for other in others:
        known.setdefault(other.asked, other.line)
    for fact in facts:
        if fact.asked in known:
            yield Finding(line=fact.line, kind="leak", why="", other=known[fact.asked])


def _near(
    facts: Sequence[Facts],
    others: Sequence[Facts],
    same: dict[bytes, list[int]],
    answers: Answers,
    similarity: float,
    seed: int,
) -> tuple[list[Finding], Ints]:
    """Near duplicates and near leaks, and the group of each row."""
    inputs = list(same.values())
    foreign = list({fact.asked: fact for fact in reversed(others)}.values())
    texts = [facts[rows[0]].question for rows in inputs] + [fact.question for fact in foreign]
    search = NearText(texts, seed=seed)
    found: list[Finding] = []
    pairs = search.within(len(inputs), similarity)
    nearest: dict[int, tuple[int, float]] = {}
    for a, b, share in zip(*(part.tolist() for part in pairs), strict=True):
        if facts[inputs[a][0]].system == facts[inputs[b][0]].system:
            nearest.setdefault(b, (a, share))  # sorted by a
    given: dict[int, dict[bytes, int]] = {}
    for b, (a, share) in nearest.items():
        if a not in given:
            given[a] = {facts[j].answered: facts[j].line for j in reversed(inputs[a])}
        for i in inputs[b]:
            first = given[a].get(facts[i].answered)
            if answers == "texts" or first is not None:
                other = facts[inputs[a][0]].line if first is None else first
                found.append(_near_finding(facts[i], "near_duplicate", share, other))
    known = {fact.asked for fact in others}
    leaks: dict[int, tuple[int, float]] = {}
    if foreign:
        for b, a, share in zip(
            *(part.tolist() for part in search.between(len(inputs), similarity)), strict=True
        ):
            leaks.setdefault(a, (b - len(inputs), share))
    for a, (b, share) in sorted(leaks.items()):
        for i in inputs[a]:
            if facts[i].asked not in known:
                found.append(_near_finding(facts[i], "near_leak", share, foreign[b].line))
    roots = clusters(len(inputs), pairs)
    groups = np.zeros(len(facts), np.int64)
    for k, rows in enumerate(inputs):
        groups[rows] = inputs[roots[k]][0]
    return found, groups


def _near_finding(fact: Facts, kind: str, share: float, other: int) -> Finding:
    return Finding(line=fact.line, kind=kind, why=f"{share:.0%} the same", other=other)


def _cut_answers(endings: Sequence[tuple[int, bool]]) -> Iterator[Finding]:
    """Long answers that end openly, where hardly any other does."""
    num_open = sum(is_open for _, is_open in endings)
    if num_open > _OPEN_SHARE * len(endings):
        return
    for line, is_open in endings:
        if is_open:
            yield Finding(line=line, kind="truncated", why="ends in the middle of a sentence")


def _imbalance(labels: Counter[str]) -> Iterator[str]:
    if len(labels) < 2:
        return
    (most, high), (least, low) = labels.most_common()[0], labels.most_common()[-1]
    if high > MAX_RATIO * low:
        yield (
            f"labels are out of balance: {most[:40]!r} has {high} rows, {least[:40]!r} {low}; over "
            f"{MAX_RATIO}:1 the small ones are hardly learned: add rows of them"
        )


def _system_text(facts: Sequence[Facts]) -> Iterator[str]:
    counts = Counter(fact.system for fact in facts if fact.system)
    if not counts:
        return
    text, num = counts.most_common(1)[0]
    whole = sum(len(fact.system) + len(fact.question) for fact in facts)
    share = num * len(text) / whole
    if num > 1 and share >= _SYSTEM_SHARE:
        yield (
            f"one system text of {len(text)} characters stands in {num} of {len(facts)} rows and "
            f"is {share:.0%} of what is asked: a tuned model often needs less of it, or none"
        )


def _ignored(reader: RowReader) -> Iterator[str]:
    if reader.ignored:
        names = ", ".join(f"{name[:40]!r} ({num})" for name, num in reader.ignored.most_common(8))
        yield f"fields that change nothing: {names}"
