"""`firefront version`: versions of the package, Python and the libraries that matter to results."""

import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version

import typer

LIBRARIES = ("numpy", "tokenizers", "msgspec", "fastapi", "uvicorn", "httpx2")


def version(as_json: bool = typer.Option(False, "--json", help="print JSON")) -> None:
    """Print the versions of firefront and what it runs on."""
    from firefront.cli.output import print_json, print_pairs

    versions = {
        "firefront": installed("firefront"),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    } | {name: installed(name) for name in LIBRARIES}
    if as_json:
        print_json(versions)
    else:
        print_pairs(list(versions.items()))


def installed(name: str) -> str:
    """The installed version of a distribution, or 'not installed'."""
    try:
        return package_version(name)
    except PackageNotFoundError:
        return "not installed"
