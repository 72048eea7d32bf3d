"""Optional libraries: imported when a node needs them; an error names the extra that brings a missing one."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

__all__ = ["package_folder", "require"]


def require(module: str, extra: str) -> ModuleType:
    """Import a module that an optional extra brings.

    Raises:
      ValueError: the module cannot be imported; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise _missing(module, extra) from missing


def package_folder(package: str, extra: str) -> Path:
    """Return the folder of a package that an optional extra brings, without importing the package.

    Raises:
      ValueError: the package is not installed; the message names the extra.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(package, extra)
    return Path(spec.submodule_search_locations[0])


def _missing(module: str, extra: str) -> ValueError:
    return ValueError(f"needs {module}, which is not installed: pip install 'headrace[{extra}]'")
