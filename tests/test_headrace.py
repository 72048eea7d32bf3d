"""`headrace`, the public face: its names and signatures, what it loads, and what it says when a package hides ours."""

from __future__ import annotations

import ast
import enum
import inspect
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import headrace
from engine.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
SIGNATURES = Path(__file__).parent / "public_names.txt"
HEAVY = {"trio", "numpy", "purerpc", "h2", "engine.serve", "transport.server", "nodes.registry", "google.protobuf"}


def described(name: str, value: Any) -> str:
    """A public name in a line or a few: what a user's program may rely on."""
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return f"{name}: {', '.join(member.name for member in value)}"
    if isinstance(value, type) and issubclass(value, Exception):
        return f"{name}({value.__base__.__name__})"
    if isinstance(value, type):
        methods = {
            each: found
            for each, found in inspect.getmembers(value)
            if not each.startswith("_") and callable(found) and not isinstance(found, type)
        }
        lines = [f"{name}{inspect.signature(value)}"]
        lines += [f"    .{each}{inspect.signature(found)}" for each, found in methods.items()]
        return "\n".join(lines)
    if callable(value):
        return f"{name}{inspect.signature(value)}"
    return f"{name}: {type(value).__name__}"


def listed() -> str:
    names = (name for name in headrace.__all__ if name != "__version__")
    return re.sub(" at 0x[0-9a-f]+", "", "\n".join(described(name, getattr(headrace, name)) for name in names)) + "\n"


def python(*args: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (*([path] if path else []), ROOT / "engine/public", ROOT))),
    }
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


class TestNames:
    def test_the_stable_names_and_their_signatures(self) -> None:
        """A failure may break users' programs: note it in the changelog; `-m tests.test_headrace` writes the list."""
        assert listed() == SIGNATURES.read_text(encoding="utf-8")

    def test_every_name_is_imported_for_type_checkers_from_the_same_place(self) -> None:
        source = Path(headrace.__file__).read_text(encoding="utf-8")
        (block,) = (
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        imported = {
            node.module: tuple(each.name for each in node.names)
            for node in block.body
            if isinstance(node, ast.ImportFrom)
        }
        assert imported == headrace._HOMES
        assert sorted((*headrace._HOME_OF, "__version__")) == sorted(headrace.__all__) == dir(headrace)

    def test_every_name_is_documented(self) -> None:
        assert headrace.__doc__
        for name in headrace.__all__:
            if name != "__version__":
                assert f"`{name}`" in headrace.__doc__ or issubclass(getattr(headrace, name), headrace.EngineError), (
                    name
                )

    def test_the_version_is_the_packages(self) -> None:
        assert headrace.__version__[0].isdigit()

    def test_a_name_that_is_not_there(self) -> None:
        assert isinstance(headrace, types.ModuleType)
        with pytest.raises(AttributeError, match="'headrace' has no attribute 'Nodes'"):
            _ = headrace.Nodes  # type: ignore[attr-defined]


class TestStartUp:
    @pytest.mark.parametrize("program", ["import headrace", "from headrace import Audio, EngineError, Manifest"])
    def test_importing_loads_no_node_and_no_server(self, program: str, tmp_path: Path) -> None:
        result = python("-c", f"{program}; import sys; print(sorted(sys.modules))", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        loaded = [
            name
            for name in ast.literal_eval(result.stdout)
            if name.startswith(("nodes.", "transport.", "engine.serve"))
        ]
        assert set(loaded) <= {"nodes.contract", "nodes.items"}

    @pytest.mark.parametrize("command", [["--help"], ["version"], ["--version"]])
    def test_quick_commands_load_neither_trio_nor_numpy_nor_the_server(
        self, command: list[str], tmp_path: Path
    ) -> None:
        shown = "import atexit, sys; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr))"
        ran = f"import runpy; sys.argv[1:] = {command}; runpy.run_module('engine', run_name='__main__')"
        result = python("-c", f"{shown}; {ran}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        loaded = set(ast.literal_eval(result.stderr))
        assert "engine.cli" in loaded
        assert loaded.isdisjoint(HEAVY)

    @pytest.mark.parametrize(
        ("command", "imported"),
        [
            (["headrace"], "click"),
            (["engine", "nodes"], "click"),
            (["engine", "nodes"], "numpy"),
            (["engine.serve"], "trio"),
        ],
    )
    def test_ctrl_c_during_imports_ends_with_130_and_no_traceback(
        self, command: list[str], imported: str, tmp_path: Path
    ) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import os, signal, sys\n"
            "class Interrupt:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name == {imported!r}:\n"
            "            os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Interrupt())\n"
        )
        result = python("-m", *command, cwd=tmp_path, path=tmp_path)
        assert (result.returncode, result.stdout, result.stderr) == (130, "", "Interrupted.\n")

    def test_the_table_of_commands_names_each_and_its_module(self) -> None:
        for name in COMMANDS:
            command = main.get_command(None, name)  # type: ignore[arg-type]
            assert command is not None
            assert command.name == name


class TestShadowing:
    """A file or package of the user's that has the name of one of ours."""

    @pytest.fixture(params=["nodes.py", "nodes/__init__.py", "transport.py", "protos/__init__.py"])
    def theirs(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        path = tmp_path / str(request.param)
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        return path

    def is_named(self, message: str, path: Path) -> None:
        name = path.relative_to(path.parents[path.name == "__init__.py"]).parts[0].removesuffix(".py")
        assert f"{path} hides Headrace's own package {name!r}" in message
        assert f"Rename your {name!r}" in message

    def test_a_program_beside_it(self, theirs: Path, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text("import headrace\n")
        result = python("program.py", cwd=tmp_path)
        assert result.returncode == 1
        self.is_named(result.stderr, theirs)

    @pytest.mark.parametrize(
        "command", [["headrace_startup", "--help"], ["engine", "nodes"], ["engine.serve", "--port", "0"]]
    )
    def test_a_command_started_beside_it(self, theirs: Path, command: list[str], tmp_path: Path) -> None:
        result = python("-m", *command, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.stderr
        self.is_named(result.stderr, theirs)

    def test_an_engine_of_theirs(self, tmp_path: Path) -> None:
        (tmp_path / "engine.py").write_text("")
        result = python("-m", "headrace_startup", "serve", "--help", cwd=tmp_path)
        assert result.returncode == 2
        self.is_named(result.stderr, tmp_path / "engine.py")

    @pytest.mark.skipif(not (ROOT / "engine/__init__.py").exists(), reason="needs a checkout")
    def test_a_checkout_hides_nothing_where_another_copy_is_installed(self, tmp_path: Path) -> None:
        unused = shutil.ignore_patterns("__pycache__", "data", "examples")
        for name in ("engine", "transport", "nodes", "protos"):
            shutil.copytree(ROOT / name, tmp_path / name, ignore=unused)
        shown = "import engine.errors; print(engine.errors.__file__)"
        result = python("-c", f"import headrace; {shown}", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'engine' / 'errors.py'}\n"), result.stderr
        assert python("-m", "engine.serve", "--help", cwd=tmp_path).returncode == 0

    def test_a_folder_that_is_no_package_hides_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "nodes").mkdir()
        (tmp_path / "nodes" / "mine.py").write_text("")
        result = python("-c", "import headrace; print(headrace.BUILTIN['VAD'].__name__)", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (0, "VAD\n"), result.stderr


if __name__ == "__main__":
    SIGNATURES.write_text(listed(), encoding="utf-8")
