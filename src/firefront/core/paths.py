"""Where firefront keeps its files: one folder, FIREFRONT_HOME or the platform's data folder."""

import os
from pathlib import Path

from firefront.core.errors import RequestError


def home() -> Path:
    """The data folder, created private (0700) on first use; RequestError if it can not be."""
    if configured := os.environ.get("FIREFRONT_HOME"):
        try:
            folder = Path(configured).expanduser()
        except RuntimeError:  # `~name` of nobody
            raise RequestError(
                f"{configured}: no such user; set FIREFRONT_HOME to a folder of yours",
                param="FIREFRONT_HOME",
            ) from None
    else:
        import platformdirs  # only here: keeps `firefront --help` fast

        folder = Path(platformdirs.user_data_dir("firefront"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{folder}: {error.strerror}; set FIREFRONT_HOME to a folder of yours",
            param="FIREFRONT_HOME",
        ) from None
    return folder
