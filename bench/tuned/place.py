"""Where the steps find their rows, keep what they found, and run the commands of the product.

Owns the folder of the work; its home is not the user's, but has the user's models.
"""

import gzip
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import tasks

Json = dict[str, Any]
MODEL = "starter"
SEED = 7
_RUN = [sys.executable, "-m", "firefront"]


class Place:
    """`rows`: of banking77's epoch; `test_rows`: to judge by, None for all."""

    def __init__(self, datasets: Path, work: Path, rows: int, test_rows: int | None) -> None:
        from firefront.core.paths import home

        self.datasets, self.work = datasets, work
        self.rows, self.test_rows = rows, test_rows
        self.tasks, self.home = work / "tasks", work / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        if not (models := self.home / "models").exists():
            models.symlink_to(home() / "models")
        os.environ["FIREFRONT_HOME"] = str(self.home.absolute())

    def has(self, step: str) -> bool:
        return (self.work / f"{step}.json").exists()

    def keep(self, step: str, found: Json) -> None:
        (self.work / f"{step}.json").write_text(json.dumps(found, indent=1) + "\n")

    def found(self, step: str) -> Json:
        return dict(json.loads((self.work / f"{step}.json").read_text()))

    def text(self, step: str) -> str:
        """What a step found, without what is long."""
        short = {key: value for key, value in self.found(step).items() if key != "losses"}
        return json.dumps(short)

    def task(self, name: str, split: str) -> Path:
        """The rows of a task, made once."""
        path = self.tasks / f"{name}-{split}.jsonl"
        if not path.exists():
            self.tasks.mkdir(parents=True, exist_ok=True)
            tasks.write(self.datasets, self.tasks, name)
        return path

    def some(self, name: str, num: int) -> Path:
        """So many training rows of a task, drawn."""
        path = self.tasks / f"{name}-{num}.jsonl"
        if not path.exists():
            lines = self.task(name, "train").read_text().splitlines()
            drawn = random.Random(SEED).sample(lines, min(num, len(lines)))
            path.write_text("\n".join(drawn) + "\n")
        return path

    def text_to_remember(self) -> Path:
        """A text that has nothing to do with any task."""
        path = self.work / "wikitext.txt"
        if not path.exists():
            with gzip.open(self.datasets / "wikitext2" / "valid.txt.gz", "rt") as file:
                path.write_text(file.read())
        return path

    def firefront(self, *arguments: str | Path) -> str:
        """What a command prints."""
        done = subprocess.run(
            [*_RUN, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    def tune(self, rows: Path, *flags: str) -> Json:
        """Tune on rows: the model's name, the folder of its adapter, the canary's figures."""
        report = rows.with_suffix(".html")
        said = self.firefront("tune", rows, "--base", MODEL, "--report", report, *flags)
        model = re.search(r"^tuned model: (.+)$", said, re.M)
        canary = re.search(r"differ by (\S+) nats a token with the adapter, (\S+) without", said)
        assert model is not None and canary is not None, said
        with_it, without = float(canary[1]), float(canary[2])
        return {"model": model[1], "kl_with": with_it, "kl_base": without}

    def judge(self, data: Path, record: str, *flags: str | Path) -> Json:
        """Evaluate; the main figures of the record, which stays in WORK."""
        path = self.work / f"{record}.record.json"
        limit = () if self.test_rows is None else ("--limit", str(self.test_rows))
        self.firefront("eval", data, "--save", path, *limit, *flags)
        return figures(json.loads(path.read_text()))


def figures(record: Json) -> Json:
    """Of a record: scores and costs of its models, verdict, probes."""
    found: Json = {"rows": len(record["rows"]), "main": record["main"]}
    for side in ("model", "against"):
        if (result := record[side]) is not None:
            costs = result["costs"]
            found[side] = {
                **{k: round(v, 4) for k, v in result["report"]["metrics"].items()},
                "tokens_per_row": round(costs["tokens_per_row"], 1),
                "latency_p50_s": round(costs["latency_p50_s"], 4),
                "wall_s": round(costs["wall_s"], 1),
            }
    if record["comparison"] is not None:
        test = record["comparison"]["mcnemar"] or {}
        found["verdict"] = record["comparison"]["verdict"]
        found["p_value"] = test.get("p_value")
    for probe in record["probes"]:
        if probe["type"] == "perplexity":
            found["perplexity"] = {key: round(probe[key], 3) for key in ("base", "tuned")}
    return found
