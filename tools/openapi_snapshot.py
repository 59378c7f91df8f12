"""docs/openapi.json: the API's document as it is in this tree. `--write` renews it.

The console's types are generated from it, and a change of the API shows up in review.
"""

import copy
import json
import sys
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def snapshot() -> str:
    """The document as it is kept."""
    from firefront.gateway.app import document

    found = copy.deepcopy(document())
    found["info"].pop("version")  # it would differ after each release
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    if "--write" in sys.argv[1:]:
        PATH.write_text(snapshot())
        return 0
    if PATH.exists() and PATH.read_text() == snapshot():
        return 0
    print("docs/openapi.json is not what the server says: python tools/openapi_snapshot.py --write")
    return 1


if __name__ == "__main__":
    sys.exit(main())
