"""The generated tests in the official SDKs' source archives, against a server with fake engines.

    python -m tests.long.sdk_suites [--place build/sdk-suites]

Fetches the archives of the versions that are installed, starts servers whose models have the
names that the tests ask for, and runs the tests of the endpoints that are served. What they expect
to be stored is put into the server's store before each test (`sdk_seed`). Says which failed, why
that is expected (`EXPECTED`), and ends with 1 if something else did or fewer than 95 % passed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib import metadata
from pathlib import Path

from anthropic.resources.messages import DEPRECATED_MODELS

from tests.gateway.live import Live

MIN_SHARE = 0.95
NEEDS = ("pytest-asyncio>=1.4", "inline-snapshot>=0.28", "http-snapshot[httpx]==0.1.9", "aiohttp")
# SDK, the models that a server has for it, files of tests. Some ask for no model: theirs has one.
SUITES = (
    (
        "openai",
        ("gpt-6-astra", "gpt-3.5-turbo-instruct"),
        (
            "test_completions.py",
            "chat/test_completions.py",
            "chat/completions/test_messages.py",
            "test_models.py",
            "test_files.py",
        ),
    ),
    (
        "openai",
        ("gpt-6-astra",),
        (
            "test_responses.py",
            "responses/test_input_items.py",
            "responses/test_input_tokens.py",
            "test_conversations.py",
            "conversations/test_items.py",
        ),
    ),
    (
        "anthropic",
        ("claude-opus-5-5", "model_id", "after_id", "before_id", *DEPRECATED_MODELS),
        ("test_messages.py", "test_models.py"),
    ),
)
# Endpoints in these files that are not served: nothing to compact with, no tuned models to delete.
NOT_SERVED = {"test_responses.py": "compact", "test_models.py": "delete"}
# Why a test may fail: by module, a part of its name, a part of what it failed with.
EXPECTED = {
    ("chat.test_completions", "create_with_all_params", "not supported"): (
        "asks for a moderation and a search of the web"
    ),
    ("test_responses", "create_with_all_params", "not supported"): (
        "asks for a prompt kept elsewhere"
    ),
    ("responses.test_input_tokens", "count_with_all_params", "send one"): (
        "goes on from a response and from a conversation, which exclude each other"
    ),
    ("test_messages", "with_all_params", "Error code: 400"): (
        "a property's schema is the text \"bar\"; asks for a container"
    ),
}
# What counts as passed: `echo` with `logprobs` begins token_logprobs with null, as it always has,
# and the SDK's type says float.
NULL = ("test_completions", "create_with_all_params_overload_1")
NULL_WORDS = ("isinstance(None, float)", "APIResponseValidationError")


def fetch(name: str, place: Path) -> Path:
    """The unpacked source archive of the installed version."""
    version = metadata.version(name)
    folder = place / f"{name}-{version}"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        command = [*pip, ":all:", "--dest", str(place), f"{name}=={version}"]
        subprocess.run(command, check=True)
        with tarfile.open(place / f"{name}-{version}.tar.gz") as archive:
            archive.extractall(place, filter="data")
    return folder


def install(place: Path) -> Path:
    """What the suites need beside the test environment, in a folder of its own."""
    folder = place / "packages"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        subprocess.run([*pip, *NEEDS], check=True)
        for path in [*folder.glob("pytest"), *folder.glob("_pytest"), *folder.glob("pytest-*")]:
            shutil.rmtree(path)  # the environment's own counts
    return folder


def run(
    name: str, files: tuple[str, ...], live: Live, place: Path, report: Path
) -> ElementTree.Element:
    """Run tests of one SDK; what came of them."""
    source = fetch(name, place)
    paths = [f"tests/api_resources/{file}" for file in files]
    here = Path(__file__).resolve().parent
    src = here.parents[1] / "src"
    environment = {
        **os.environ,
        "TEST_API_BASE_URL": f"{live.url}/v1" if name == "openai" else live.url,
        "FIREFRONT_HOME": str(live.home),
        "PYTHONPATH": os.pathsep.join(map(str, (source, install(place), here, src))),
    }
    options = ["-o", "addopts=", "-q", "-p", "sdk_seed", "-p", "no:cacheprovider", "--tb=line"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *paths]
    log = report.with_suffix(".log")
    with log.open("w") as out:
        subprocess.run(command, cwd=source, env=environment, stdout=out, stderr=out, check=False)
    if not report.exists():
        sys.exit(f"{name}: no test ran:\n{log.read_text()[-3000:]}")
    return ElementTree.parse(report).getroot()


def judge(name: str, root: ElementTree.Element) -> tuple[int, int, int]:
    """Print what failed; how many ran, passed, and failed for no known reason."""
    num_run = num_passed = num_unknown = 0
    failed: Counter[tuple[str, str, str]] = Counter()
    for case in root.iter("testcase"):
        module = (case.get("classname") or "").removeprefix("tests.api_resources.")
        module = module.rpartition(".")[0]
        test = re.sub(r"\[.*", "", case.get("name") or "").removeprefix("test_")
        left_out = NOT_SERVED.get(module.replace(".", "/") + ".py")
        if (left_out and left_out in test) or case.find("skipped") is not None:
            continue
        num_run += 1
        fault = case.find("failure") if case.find("failure") is not None else case.find("error")
        said = "" if fault is None else fault.get("message") or ""
        is_null = (module, test.partition("_")[2]) == NULL and any(w in said for w in NULL_WORDS)
        if fault is None or is_null:
            num_passed += 1
            continue
        known = [
            why
            for (where, part, words), why in EXPECTED.items()
            if where == module and part in test and words in said
        ]
        num_unknown += not known
        failed[module, test, known[0] if known else said[:200]] += 1
    for (module, test, why), count in sorted(failed.items()):
        print(f"  failed {count} times: {module} {test}: {why}")
    print(f"{name}: {num_passed} of {num_run} passed")
    return num_run, num_passed, num_unknown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, default=Path("build/sdk-suites"))
    options = parser.parse_args()
    place = options.place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    counts = []
    for number, (name, models, files) in enumerate(SUITES):
        with tempfile.TemporaryDirectory(prefix="firefront-suites-") as folder:
            live = Live(Path(folder), *models).start()
            try:
                report = place / f"{name}-{number}.xml"
                counts.append(judge(name, run(name, files, live, place, report)))
            finally:
                live.stop()
    num_run, num_passed, num_unknown = (sum(column) for column in zip(*counts, strict=True))
    share = num_passed / num_run
    print(f"all: {num_passed} of {num_run} = {share:.1%}; {num_unknown} not explained")
    return int(share < MIN_SHARE or num_unknown > 0)


if __name__ == "__main__":
    sys.exit(main())
