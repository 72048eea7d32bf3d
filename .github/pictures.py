"""Draw README.md's pictures: `python .github/pictures.py`, in an environment with Headrace installed.

It runs `headrace demo` and keeps its terminal as `demo.svg`, and draws the demo's pipeline as `pipeline.svg`. The
figures in the picture are those of the machine that it runs on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 112
PIPELINE = resources.files("engine.cli") / "data" / "demo.json"


def headrace(*args: str) -> str:
    """Return what a command prints."""
    command = [sys.executable, "-m", "engine", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout


def terminal(command: str, printed: str) -> str:
    """Return a terminal window as SVG, without the web fonts that rich refers to: a picture must load nothing."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(Text(f"$ {command}", style="bold green"))
    console.print(Text(printed.rstrip()))
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="headrace"), flags=re.DOTALL)


def main() -> None:
    """Write both pictures beside this file."""
    (HERE / "demo.svg").write_text(terminal("headrace demo", headrace("demo")), encoding="utf-8")
    with resources.as_file(PIPELINE) as manifest:
        (HERE / "pipeline.svg").write_text(headrace("graph", str(manifest), "--format", "svg"), encoding="utf-8")


if __name__ == "__main__":
    main()
