"""Paths of the foreign programs that tests need, and the handling of missing ones.

In CI (the variable CI is set) a missing program fails the test. On a developer's machine the tests that need it are
skipped, and a section at the end of the run lists what was not tested.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest

NODE_DIRECTORY = Path(__file__).parent / "node"
INSTALL = "npm ci --ignore-scripts --prefix tests/interop/node"

not_tested: list[str] = []


def node() -> Path:
    found = shutil.which("node")
    if found is None:
        _missing("grpc-js: node is not installed")
    if not (NODE_DIRECTORY / "node_modules/@grpc/grpc-js").is_dir():
        _missing(f"grpc-js is not installed; {INSTALL}")
    assert found is not None
    return Path(found)


def buf() -> Path:
    machine = {"x86_64": "x64"}.get(platform.machine(), platform.machine())
    installed = NODE_DIRECTORY / f"node_modules/@bufbuild/buf-{platform.system().lower()}-{machine}/bin/buf"
    found = installed if installed.is_file() else shutil.which("buf")
    if found is None:
        _missing(f"buf curl: buf is not installed; {INSTALL}")
    assert found is not None
    return Path(found)


def h2load() -> Path:
    found = shutil.which("h2load")
    if found is None:
        _missing("h2load is not installed; Debian has it in nghttp2-client")
    assert found is not None
    return Path(found)


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    if what not in not_tested:
        not_tested.append(what)
    pytest.skip(what)
