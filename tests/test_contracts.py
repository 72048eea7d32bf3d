"""Import contracts: one injected violation of each is caught, in a copy of the tree, and the tree itself keeps them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter comes with the extra dev")

ROOT = Path(__file__).parent.parent
VIOLATIONS = {  # contract → module, and an import that it may not have
    "layers": ("engine/session/session.py", "import transport.codec.audio"),
    "transport": ("transport/codec/audio.py", "import transport.server.call"),
    "grpc": ("transport/grpc/driver.py", "import engine.teardown"),
    "client": ("transport/client/client.py", "import engine.session"),
    "nodes": ("nodes/dsp/blocks.py", "import nodes.bases.rows"),
    "node-rooms": ("nodes/gain.py", "import engine.errors"),
    "no-node": ("engine/pipeline/running.py", "import nodes.gain"),
    "no-wire": ("engine/manifest/manifest.py", "import protos"),
    "no-circles": ("engine/pipeline/inbox.py", "import engine.pipeline.running"),
}


def contracts() -> list[str]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [contract["id"] for contract in config["tool"]["importlinter"]["contracts"]]


def lint(tree: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import importlinter.cli as cli; cli.lint_imports_command()"]
    path = os.pathsep.join([str(tree), str(tree / "engine" / "public")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [*command, "--contract", contract, "--no-cache", "--no-logo"],
        cwd=tree, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for name in ("engine", "transport", "nodes", "protos", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results", "data"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def test_every_contract_has_a_violation_here() -> None:
    assert contracts() == list(VIOLATIONS)


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_violation_is_caught(contract: str, tree: Path) -> None:
    assert (kept := lint(tree, contract)).returncode == 0, kept.stdout + kept.stderr
    module, line = VIOLATIONS[contract]
    path = tree / module
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        broken = lint(tree, contract)
    finally:
        path.write_text(before, encoding="utf-8")
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "BROKEN" in broken.stdout
