"""How much memory an object holds, with all that it leads to."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

__all__ = ["footprint_bytes"]

_SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType)
"""What belongs to the program, not to an object that leads to it."""


def footprint_bytes(root: Any) -> int:
    """The size of everything that can be reached from an object, each thing counted once.

    Python's objects and NumPy's memory, also what a view keeps alive. What a C library allocates is not seen.
    """
    seen: set[int] = set()
    found = [root]
    total = 0
    while found:
        each = found.pop()
        if id(each) in seen or isinstance(each, _SHARED):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        found += gc.get_referents(each)
        if isinstance(each, np.ndarray) and each.base is not None:
            found.append(each.base)  # which NumPy does not tell the collector
    return total
