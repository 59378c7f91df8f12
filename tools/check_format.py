"""clang-format over csrc/: says which files differ; with --fix it formats them."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".c", ".cc", ".cpp", ".h", ".hpp", ".inl"}


def main() -> int:
    files = sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in SUFFIXES)
    if not files:
        return 0
    program = Path(sysconfig.get_path("scripts")) / "clang-format"
    mode = ["-i"] if "--fix" in sys.argv[1:] else ["--dry-run", "--Werror", "--ferror-limit=1"]
    return subprocess.run([str(program), *mode, *map(str, files)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
