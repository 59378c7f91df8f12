"""Tuning on public data sets: how good, how fast, what is forgotten, what it does to serving.

    python -m bench.tuned DATASETS --work build/tuned --page docs/bench/tuning.md

DATASETS has banking77, snips, sroie_receipts and wikitext2 (see `bench.tasks`). Each step leaves a
JSON file in WORK and is skipped where that is, so a run that was cut off goes on; --only names
steps. The machine should do nothing else; all of it takes two to three hours on two cores.
"""

import argparse
import sys
import time
from pathlib import Path

from bench.tuned import report, serving, steps
from bench.tuned.place import Place

STEPS = {
    "banking": steps.banking,
    "judged": steps.judged,
    "curve": steps.curve,
    "large": steps.large,
    "snips": steps.snips,
    "sroie": steps.sroie,
    "parity": steps.parity,
    "loop": serving.loop,
    "sdk": serving.sdk,
    "waiting": serving.waiting,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/tuned"))
    parser.add_argument("--page", type=Path, help="write a page of what is there, with plots")
    parser.add_argument("--only", choices=STEPS, action="append", help="steps; all if absent")
    parser.add_argument("--rows", type=int, default=3000, help="of banking77's epoch")
    parser.add_argument("--test-rows", type=int, help="to judge by; all if absent")
    options = parser.parse_args()
    place = Place(options.datasets, options.work, options.rows, options.test_rows)
    for name in options.only or STEPS:
        if place.has(name):
            continue
        print(f"{name}...", file=sys.stderr, flush=True)
        started_s = time.time()
        found = STEPS[name](place)
        place.keep(name, {**found, "took_s": round(time.time() - started_s, 1)})
        print(f"{name}: {place.text(name)}", file=sys.stderr, flush=True)
    if options.page is not None:
        report.write(place, options.page)


if __name__ == "__main__":
    main()
