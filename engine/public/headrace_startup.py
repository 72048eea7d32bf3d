"""Start-up: check that Python finds our packages and no others of their names, then import and run a command.

A module of its own, with imports of the standard library alone, because it runs before any of our packages is imported,
`headrace` included.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

__all__ = ["ShadowedPackage", "headrace", "require_own_packages", "start"]

_PACKAGES = ("engine", "transport", "nodes", "protos")
_USAGE = 2
_INTERRUPTED = 130


class ShadowedPackage(ImportError):
    """Another module or package hides one of Headrace's own."""


def require_own_packages() -> None:
    """Check that no file on the path hides one of our packages.

    Raises:
      ShadowedPackage: one does; the message says which, and what to rename.
    """
    here = Path(__file__).resolve().parent
    home = here if (here / "engine").is_dir() else here.parents[1]  # installed, or in a checkout
    for name in _PACKAGES:
        found = _file_of(name)
        if found is not None and home / name not in found.parents:
            raise ShadowedPackage(
                f"{found} hides Headrace's own package {name!r}, because its folder comes first on Python's path."
                f" Rename your {name!r}, or move it into a package of yours, and start again.",
                name=name,
                path=str(found),
            )


def _file_of(name: str) -> Path | None:
    """The file that `import name` gives or would give; None if there is none, as for a folder without `__init__.py`."""
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
      module: Where `main`, a click command, is.
      prog_name: The command as its help shows it.
    """
    try:
        require_own_packages()
        main = importlib.import_module(module).main
    except ShadowedPackage as error:
        sys.exit(_said(f"Error: {error}", _USAGE))
    except KeyboardInterrupt:  # imports take a moment: there is nothing to clean up yet
        sys.exit(_said("Interrupted.", _INTERRUPTED))
    main(prog_name=prog_name)


def _said(text: str, exit_code: int) -> int:
    print(text, file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    headrace()
