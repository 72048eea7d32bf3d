"""House rules that a machine can check: sizes, and how docstrings begin."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.docstrings import wh_docstrings

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "transport", "nodes", "benchmarks", "protos")
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 30


def modules(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.name.endswith(("_pb2.py", "_grpc.py")) and "node_modules" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Number of lines of a function without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def test_no_docstring_begins_with_a_wh_clause() -> None:
    found = [
        f"{name}:{line}: {text}" for name, source in modules(*PACKAGES, "tests") for line, text in wh_docstrings(source)
    ]
    assert not found


def test_the_script_finds_a_wh_clause() -> None:
    source = '"""What it is."""\nX = 1\n"""Whether it is."""\ndef f():\n    """Return it."""\n'
    assert [line for line, _ in wh_docstrings(source)] == [1, 3]


def test_no_module_is_too_long() -> None:
    lengths = {name: source.count("\n") for name, source in modules(*PACKAGES)}
    assert not {name: length for name, length in lengths.items() if length > MAX_MODULE_LINES}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{name}:{node.name}": lines_of(node)
        for name, source in modules(*PACKAGES)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES}
