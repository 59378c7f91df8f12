"""What `pip install firefront` brings without extras: small, and no torch in it."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement

MAX_BYTES = 230_000_000
NOT_IN_BASE = {"torch", "transformers", "triton", "scipy", "pandas", "ray"}


def closure(name: str) -> dict[str, Distribution]:
    """The distributions that `name` needs, itself included, by the markers of this machine."""
    found: dict[str, Distribution] = {}
    todo: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    seen = set()
    while todo:
        name, extras = todo.pop()
        key = name.lower().replace("_", "-").replace(".", "-")
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        found[key] = distribution(name)
        for text in found[key].requires or []:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in extras or {""}]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(e) for e in environments):
                todo.append((requirement.name, frozenset(requirement.extras)))
    return found


def num_bytes(installed: Distribution) -> int:
    paths = [path.locate() for path in installed.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())  # type: ignore[attr-defined]


def test_base_install_is_small_and_without_torch() -> None:
    try:
        base = closure("firefront")
    except PackageNotFoundError as error:
        if error.name != "firefront":
            raise
        pytest.skip("firefront is not installed; make test installs it")
    assert not base.keys() & NOT_IN_BASE
    sizes = {name: num_bytes(installed) for name, installed in base.items()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert sum(sizes.values()) <= MAX_BYTES, largest
