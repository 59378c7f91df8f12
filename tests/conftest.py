"""Real models for the tests that need one, pulled through our own fetch; skipped when out of reach.

FIREFRONT_TEST_MODELS names a folder with starter.gguf and qwen05.gguf, links into the model store;
it is set before any test is collected, from what is in the store already (`make test` pulls first).
"""

import os
import tempfile
from pathlib import Path

import pytest

from firefront.core.errors import FirefrontError
from firefront.core.paths import home

CATALOG = Path(__file__).parent.parent / "bench" / "models.toml"
# Files run side by side: had each as many threads of arithmetic as there are cores, most would spin
# for one that waits for a core. Read when numpy and torch are first imported.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LINKS = {"starter.gguf": "starter", "qwen05.gguf": "qwen-coder-0.5b"}


def pytest_configure(config: pytest.Config) -> None:
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    if "FIREFRONT_TEST_MODELS" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="firefront-test-models-")
    config.add_cleanup(folder.cleanup)
    for link, name in LINKS.items():
        for path in (home() / "models" / name).glob("*.gguf"):
            (Path(folder.name) / link).symlink_to(path)
    os.environ["FIREFRONT_TEST_MODELS"] = folder.name


def _model(link: str, catalog: Path | None) -> Path:
    path = Path(os.environ["FIREFRONT_TEST_MODELS"]) / link
    if path.exists():
        return path
    from firefront.weights import fetch
    from firefront.weights.model_store import ModelStore

    name = LINKS[link]
    try:
        store = ModelStore()
        return store.path(fetch.pull(name, catalog=catalog, store=store))
    except FirefrontError as error:
        pytest.skip(f"model {name} is missing and can not be pulled: {error}")


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """SmolLM2-135M-Instruct Q4_1."""
    return _model("starter.gguf", None)


@pytest.fixture(scope="session")
def qwen_path() -> Path:
    """Qwen2.5-Coder-0.5B-Instruct Q4_K_M."""
    return _model("qwen05.gguf", CATALOG)
