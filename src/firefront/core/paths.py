"""Where firefront keeps its files: one folder, FIREFRONT_HOME or the platform's data folder."""

import os
from pathlib import Path


def home() -> Path:
    """The data folder, created private (0700) on first use."""
    if configured := os.environ.get("FIREFRONT_HOME"):
        folder = Path(configured).expanduser()
    else:
        import platformdirs  # only here: keeps `firefront --help` fast

        folder = Path(platformdirs.user_data_dir("firefront"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
