"""Import paths that go in the next version: they still work, and say where the names are now."""

from __future__ import annotations

import importlib
import sys

import pytest

import headrace

MOVED = {
    "engine.packet": ("Chunk", "Result", "SessionMetrics", "engine.messages"),
    "engine.builder": ("Pipeline", "engine.manifest.Pipeline"),
}


@pytest.mark.parametrize("module", MOVED)
def test_a_moved_module_warns_and_gives_the_same_names(module: str) -> None:
    *names, home = MOVED[module]
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match=rf"{module}.* has become {home}") as warned:
        moved = importlib.import_module(module)
    assert warned[0].filename == __file__ or "importlib" in warned[0].filename
    assert all(getattr(moved, name) is getattr(headrace, name) for name in names)
