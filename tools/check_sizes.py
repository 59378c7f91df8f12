"""Size caps: a file or function past its cap is split, not excused. Prints each offender.

Caps in lines: src *.py 500, csrc/kernels 800, other csrc 600; functions in src 80.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_PYTHON = 500
MAX_KERNEL = 800
MAX_NATIVE = 600
MAX_FUNCTION = 80
NATIVE_SUFFIXES = {".c", ".cc", ".cpp", ".h", ".hpp", ".inl"}


def cap_of(path: Path) -> int | None:
    """The cap in lines that applies to a file below ROOT, or None."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "src" and path.suffix == ".py":
        return MAX_PYTHON
    if parts[0] == "csrc" and path.suffix in NATIVE_SUFFIXES:
        return MAX_KERNEL if parts[1] == "kernels" else MAX_NATIVE
    return None


def offenders(path: Path) -> list[str]:
    """What in this file is too long, one line each."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    cap = cap_of(path)
    num_lines = len(text.splitlines())
    found = [f"{name}: {num_lines} lines, at most {cap}"] if cap and num_lines > cap else []
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION:
                    found.append(
                        f"{name}:{node.lineno}: {node.name} has {length} lines, "
                        f"at most {MAX_FUNCTION}"
                    )
    return found


def main() -> int:
    paths = [p for top in ("src", "csrc") for p in sorted((ROOT / top).rglob("*")) if p.is_file()]
    found = [line for path in paths if cap_of(path) for line in offenders(path)]
    print("\n".join(found) or "sizes: all within their caps")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
