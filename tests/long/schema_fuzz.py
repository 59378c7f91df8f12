"""schemathesis over the server's own OpenAPI document: no 5xx, no answer that is not documented.

    python -m tests.long.schema_fuzz [--place build/schemathesis] [--examples 100] [--seed 1]

A real gateway with a fake engine is asked what the document allows and what it does not. Only the
checks of answers are on: what a request should have been refused for is msgspec's business.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gateway.live import Live

NEEDS = "schemathesis==4.32.5"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, default=Path("build/schemathesis"))
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    place = options.place.resolve()
    if not place.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place)]
        subprocess.run([*pip, NEEDS], check=True)
    with tempfile.TemporaryDirectory(prefix="firefront-fuzz-") as folder:
        live = Live(Path(folder), "fake", FAKE_STEP_S=0).start()
        try:
            command = [
                sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
                "run", f"{live.url}/openapi.json", "--checks", ",".join(CHECKS),
                "--max-examples", str(options.examples), "--seed", str(options.seed),
                "--phases", "examples,coverage,fuzzing", "--request-timeout", "60",
            ]  # fmt: skip
            environment = {**os.environ, "PYTHONPATH": str(place)}
            done = subprocess.run(command, env=environment, cwd=folder, check=False)
            print(live.raw_log[-3000:] if "Traceback" in live.raw_log else "no traceback logged")
            return done.returncode or int("Traceback" in live.raw_log)
        finally:
            live.stop()


if __name__ == "__main__":
    sys.exit(main())
