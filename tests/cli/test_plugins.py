"""Nodes from files on the command line: usable where there is a registry, and reported if they are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.programs import Program, invoke, lines_of, of_type, run_program, write_manifest, write_tone

NODE = """
import attrs
from nodes.contract import Audio, Node

@attrs.define
class Mirror(Node):
    '''Turn the samples over.'''

    def process(self, item: Audio):
        return [item.derive(-item.as_float32())]
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Files of a node, of a broken node, and of a manifest that uses the first."""
    good, bad = tmp_path / "mirror.py", tmp_path / "bad.py"
    good.write_text(NODE)
    bad.write_text("1 / 0\n")
    return good, bad, write_manifest(tmp_path / "m.json", {"mirror": "Mirror"})


def test_a_file_s_nodes_can_be_validated_and_run(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    good, bad, manifest = files
    assert "known are" in invoke("validate", manifest).stdout
    done = invoke("validate", manifest, "--nodes", good, "--nodes", bad)
    assert done.exit_code == 0
    assert f"left out: {bad}: cannot be imported: ZeroDivisionError" in done.stderr
    ran = invoke("run", write_tone(tmp_path / "t.wav"), "-m", manifest, "--nodes", good, "--json")
    (summary,) = of_type(lines_of(ran.stdout), "summary")
    assert (ran.exit_code, summary["errors"], summary["metrics"]["figures"]["mirror"]["chunks"]) == (0, 0, 50)


@pytest.mark.parametrize("command", [["validate", "m.json"], ["serve"]])
def test_strict_plugins_refuses(files: tuple[Path, Path, Path], command: list[str]) -> None:
    done = invoke(*command, "--nodes", files[1], "--strict-plugins")
    assert done.exit_code != 0
    assert f"{files[1]}: cannot be imported" in done.stderr


def test_a_server_starts_without_a_broken_plugin_and_says_so(files: tuple[Path, Path, Path]) -> None:
    good, bad, _ = files
    server = Program("--port", "0", "--nodes", str(good), "--nodes", str(bad), module="engine.serve")
    address = server.line("listening on").split()[-1]
    assert "Mirror" in run_program("version", "--address", address).out
    server.signal(15)
    done = server.finish()
    assert (done.code, f"{bad}: cannot be imported" in done.err) == (0, True)
