"""Import paths that go in the next version: they still work, and say where the names are now."""

from __future__ import annotations

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
    program = compile(f"from {module} import {', '.join(names)}", "theirs.py", "exec")
    theirs: dict[str, object] = {}
    with pytest.warns(DeprecationWarning, match=rf"{module}.* is now {home}") as warned:
        exec(program, theirs)
    assert warned[0].filename == "theirs.py"
    assert all(theirs[name] is getattr(headrace, name) for name in names)
