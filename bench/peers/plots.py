"""Has the plots drawn in an environment of their own: the package never needs matplotlib."""

from collections.abc import Callable
from pathlib import Path

from bench.peers.place import CannotSetUp, Place

TOOLS = ("matplotlib==3.11.2", "gguf==0.19.0")
SCRIPT = Path(__file__).parent / "children" / "draw_plots.py"


def draw(tools: Place, data: Path, folder: Path, say: Callable[[str], None]) -> list[str]:
    """SVG files of the results in `folder`; their names, none if they could not be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{data.stem}-speed.svg", f"{data.stem}-roofline.svg"]
    try:
        tools.run("plots", [tools.python, SCRIPT, data, *(folder / name for name in names)])
    except CannotSetUp as error:
        say(f"no plots: {error}")
        return []
    return names
