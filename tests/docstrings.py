"""List docstrings that begin with a wh-clause: `python -m tests.docstrings [FOLDER ...]`.

A docstring begins with an imperative or a noun phrase: "Return the next event", not "What comes next".
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["BEGINNINGS", "wh_docstrings"]

BEGINNINGS = frozenset({"What", "Who", "Whose", "Whom", "Whether", "How", "Where", "When", "Which", "Why", "That"})
ROOT = Path(__file__).parent.parent


def wh_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module that begin with a wh-clause, including those of attributes and constants.

    Yields:
      (line number, first line of the docstring) of each.
    """
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(text := node.value.value, str):
            first = text.strip().partition("\n")[0]
            if first.split(" ")[0].rstrip(",;:'") in BEGINNINGS:
                yield node.lineno, first


def _modules(folders: list[str]) -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "--", *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    for name in listed.stdout.split():
        if name.endswith(".py"):
            yield ROOT / name


if __name__ == "__main__":
    count = 0
    for path in _modules(sys.argv[1:] or ["*.py"]):
        for line, text in wh_docstrings(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(ROOT)}:{line}: {text}")
            count += 1
    print(count)
