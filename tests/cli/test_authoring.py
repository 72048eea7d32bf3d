"""`headrace node`: the nodes that it writes work, and it reports each check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nodes
from engine.catalogue.discovery import load_file
from tests.cli.programs import ROOT, invoke, lines_of

LEAKY = """
import attrs
from nodes.contract import Audio, Node

@attrs.define
class Leaky(Node):
    '''Forgets its last block.'''
    held: list = attrs.field(init=False, factory=list)

    def process(self, item: Audio):
        given, self.held = self.held, [item]
        return given
"""


def check(path: Path, *options: str) -> tuple[int, dict[str, str]]:
    """Run the command; return its exit code, and check → status."""
    done = invoke("node", "check", path, "--json", *options)
    return done.exit_code, {line["check"]: line["status"] for line in lines_of(done.stdout)}


def test_a_new_node_passes_its_own_test_and_all_checks(tmp_path: Path) -> None:
    done = invoke("node", "new", "SoftNoise2", "--dir", tmp_path / "mine")
    assert done.exit_code == 0
    folder = tmp_path / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["soft_noise2.py", "test_soft_noise2.py"]
    assert list(load_file(folder / "soft_noise2.py")) == ["SoftNoise2"]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ran = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
    code, statuses = check(folder / "soft_noise2.py", "--rate", "8000", "--channels", "1")
    assert (code, set(statuses.values()), len(statuses)) == (0, {"passed"}, 9)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_echo.py").write_text("mine")
    done = invoke("node", "new", "Echo", "--dir", tmp_path)
    assert (done.exit_code, "test_echo.py: already there; nothing was written" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["test_echo.py"]


@pytest.mark.parametrize(("name", "hint"), [("echo", "Echo"), ("my-node", "MyNode"), ("../x", "X"), ("9", "Tremolo")])
def test_a_name_that_cannot_be_one_is_answered_with_one_that_can(tmp_path: Path, name: str, hint: str) -> None:
    done = invoke("node", "new", "--dir", tmp_path, name)
    assert (done.exit_code, f"such as {hint}" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "why"), [("VAD", "is taken"), ("Queue", "hide the module 'queue'"), ("Numpy", "hide the module 'numpy'")]
)
def test_a_name_that_would_be_in_the_way_is_refused(tmp_path: Path, name: str, why: str) -> None:
    done = invoke("node", "new", "--dir", tmp_path, name)
    assert (done.exit_code, why in done.stderr, [*tmp_path.iterdir()]) == (2, True, [])


def test_a_node_that_breaks_the_contract_is_told_what_and_where(tmp_path: Path) -> None:
    path = tmp_path / "leaky.py"
    path.write_text(LEAKY)
    code, statuses = check(path, "--format", "i16")
    assert (code, statuses["cut anyhow"], statuses["closed at any time"]) == (1, "failed", "passed")
    told = invoke("node", "check", path, "--format", "i16").stdout
    assert "failed   Leaky: cut anyhow: i16, 16000 Hz, 1 channels: positions or length" in told


def built_in(name: str) -> Path:
    return Path(nodes.__file__).parent / f"{name}.py"


def test_joins_and_nodes_that_need_parameters_are_checked_too() -> None:
    for name in ("mix", "channel_mixer"):
        assert check(built_in(name), "--format", "i16", "--channels", "2")[0] == 0
    for options, code in (((), 1), (("--any-length",), 0)):
        assert check(built_in("audio_resample"), "--format", "i16", "--channels", "2", *options)[0] == code


def test_what_takes_data_alone_is_skipped_and_bad_parameters_fail() -> None:
    assert check(built_in("calculator")) == (0, {"can be built": "passed", "takes audio": "skipped"})
    assert check(built_in("gain"), "--params", '{"gain_db": 999}') == (1, {"can be built": "failed"})
    assert invoke("node", "check", built_in("gain"), "--params", "{").exit_code == 2
    assert invoke("node", "check", "none.py").exit_code == 2
