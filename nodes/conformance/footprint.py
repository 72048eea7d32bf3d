"""Memory that an object holds, including everything that can be reached from it."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

__all__ = ["footprint_bytes"]

_SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType)
"""Types of objects that belong to the program, not to an object that refers to them."""


def footprint_bytes(root: Any) -> int:
    """Return the size of everything that can be reached from an object, each object counted once.

    Python objects and NumPy's memory count, including an array that a view keeps alive. Memory that a C library
    allocates is not seen.
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
            found.append(each.base)  # NumPy does not report it to the collector
    return total
