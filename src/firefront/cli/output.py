"""Printing shared by the commands: JSON on standard output, sizes for people.

JSON is one document, with a newline, and nothing else goes to standard output beside it.
"""

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """One JSON document; structs become objects."""
    import msgspec

    json.dump(msgspec.to_builtins(value), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def human_bytes(num_bytes: float) -> str:
    """1234567 -> '1.2 MB' (powers of ten, as disks and networks count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Left-aligned columns, plain text."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def print_pairs(pairs: list[tuple[str, str]]) -> None:
    """`name  value` lines, the names padded to one width."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        print(f"{name.ljust(width)}  {value}")
