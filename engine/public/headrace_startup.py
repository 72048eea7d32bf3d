"""Start-up: check that Python finds our packages and not others of the same names, then import and run a command.

It imports only the standard library, because it runs before any of our packages is imported, `headrace` included.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

__all__ = ["ShadowedPackage", "exit_interrupted", "headrace", "load", "require_own_packages", "start"]

_PACKAGES = ("engine", "transport", "nodes", "protos")
_USAGE = 2
_INTERRUPTED = 130


class ShadowedPackage(ImportError):
    """Another module or package hides one of Headrace's packages."""


def require_own_packages() -> None:
    """Check that no file on the path hides one of our packages.

    Raises:
      ShadowedPackage: a file does; the message says which, and what to rename.
    """
    for name in _PACKAGES:
        found = _file_of(name)
        if found is not None and not _is_ours(found, name):
            raise ShadowedPackage(
                f"{found} hides Headrace's own package {name!r}, because its folder comes first on Python's path."
                f" Rename your {name!r}, or move it into a package of yours, and start again.",
                name=name,
                path=str(found),
            )


def _is_ours(file: Path, name: str) -> bool:
    """Return True for the package beside this module, and for that of any checkout of Headrace.

    A command that is started in a checkout runs the checkout's code, also where another copy is installed.
    """
    here, package = Path(__file__).resolve(), file.parent
    if file.name != "__init__.py" or package.name != name:
        return False
    return package.parent == here.parent or (package.parent / "engine" / "public" / here.name).is_file()


def _file_of(name: str) -> Path | None:
    """Return the file that `import name` would load or has loaded; None without one, as for a namespace package."""
    module = sys.modules.get(name)
    spec = importlib.util.find_spec(name) if module is None else module.__spec__
    origin = getattr(module, "__file__", None) if spec is None else spec.origin
    return None if origin is None else Path(origin).resolve()


def headrace() -> None:
    """Run the command line: the entry point of the `headrace` script."""
    start("engine.cli", "headrace")


def start(module: str, prog_name: str) -> None:
    """Import a command's module and run its `main`; never returns.

    Args:
      module: Module whose `main` is a click command.
      prog_name: Name of the command in its help.
    """
    try:
        require_own_packages()
    except ShadowedPackage as error:
        _exit(f"Error: {error}", _USAGE)
    load(module).main(prog_name=prog_name)


def load(module: str) -> ModuleType:
    """Import a module of a command; Ctrl-C meanwhile ends the process with exit code 130, without a traceback."""
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:  # imports take a moment; there is nothing to clean up yet
        exit_interrupted()


def exit_interrupted() -> NoReturn:
    """End the process as Ctrl-C ends a command."""
    _exit("Interrupted.", _INTERRUPTED)


def _exit(text: str, exit_code: int) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    headrace()
