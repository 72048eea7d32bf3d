"""Test the discovery of nodes that do not come with Headrace, and the faults of plugins that cannot be used."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.catalogue.discovery import GROUP, Discovered, discover
from engine.manifest import manifest_from_dict
from engine.manifest.checker import make_plan
from nodes.pass_through import PassThrough

GOOD = """
from __future__ import annotations
import attrs
from nodes.contract import Audio, Node, parameter
from nodes.gain import Gain

@attrs.define
class Twice(Node):
    '''Give everything twice.'''
    times: int = parameter(2, help="how often", at_least=1)

    def process(self, item: Audio):
        return [item] * self.times

class Thrice(Twice):
    '''Give everything three times.'''

class _Hidden(Twice):
    pass
"""


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def found_in(path: Path) -> Discovered:
    return discover({"PassThrough": PassThrough}, [path], installed=())


def test_a_file_gives_its_public_nodes_and_not_what_it_imports(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    found = found_in(path)
    assert (list(found.registry), found.faults) == (["PassThrough", "Twice", "Thrice"], [])
    assert found.origins == {"Twice": str(path), "Thrice": str(path)}
    node = {"id": "t", "node_type": "Twice", "params": {"times": 5}}
    plan = make_plan(manifest_from_dict({"version": "v1", "nodes": [node]}), found.registry)
    assert plan.sources["t"].node.times == 5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import attrs\nx = np.zeros(3)\n", "NameError: name 'np' is not defined (mine.py, line 2)"),
        ("class Twice(:\n", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("raise SystemExit('enough')\n", "SystemExit: enough (mine.py, line 1)"),
        ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
        ("from nodes.gain import Gain\n", "defines no class that derives from Node or Join"),
        ("from nodes.contract import Node\nclass Bare(Node): pass\n", "Bare is not an attrs class: put @attrs.define"),
        (GOOD.replace("times: int", "times: Inn"), "the type hints of Twice cannot be resolved: name 'Inn'"),
        (GOOD.replace("times: int", "times: set[int]"), "Twice.times is set, which JSON cannot express"),
        (
            GOOD.replace("times: int", "times: dict[int, str | bytes]"),
            "Twice.times is an object, each value a string or bytes",
        ),
        (GOOD.replace("def process", "def treat"), "Twice has no method `process`"),
        (GOOD.replace("Twice", "PassThrough"), "the name 'PassThrough' is taken: it comes with Headrace"),
    ],
)
def test_a_broken_file_is_named_with_its_error_and_leaves_nothing(tmp_path: Path, text: str, said: str) -> None:
    path, before = written(tmp_path, text), {*sys.modules}
    found = found_in(path)
    (fault,) = found.faults
    assert (fault.path, said in fault.message) == (str(path), True), fault
    assert found.registry["PassThrough"] is PassThrough
    if "import" in fault.message:
        assert not {name for name in {*sys.modules} - before if name.startswith("headrace_nodes")}


@pytest.mark.parametrize(("name", "said"), [("none.py", "cannot be read: No such file"), ("nodes.txt", "end in .py")])
def test_what_is_no_python_file_is_named(tmp_path: Path, name: str, said: str) -> None:
    (fault,) = found_in(tmp_path / name).faults
    assert said in fault.message


def test_two_files_of_one_name_are_two_modules_and_the_first_keeps_a_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = written(tmp_path, GOOD), written(tmp_path / "a", GOOD.replace("Thrice", "Often"))
    found = discover({}, [first, second], installed=())
    assert list(found.registry) == ["Twice", "Thrice", "Often"]
    assert found.origins["Twice"] == str(first)
    assert [str(fault) for fault in found.faults] == [f"{second}: the name 'Twice' is taken: it is from {first}"]


def test_installed_nodes_are_found_by_their_entry_points() -> None:
    good = EntryPoint("Echo", "nodes.pass_through:PassThrough", GROUP)
    bad = EntryPoint("Kind", "nodes.contract:Kind", GROUP)
    gone = EntryPoint("Gone", "nodes.gone:Gone", GROUP)
    found = discover({}, installed=[good, bad, gone])
    assert dict(found.registry) == {"Echo": PassThrough}
    assert [fault.path for fault in found.faults] == ["nodes.contract:Kind", "nodes.gone:Gone"]
    assert "must be a class that derives from Node or Join" in found.faults[0].message
    assert "No module named 'nodes.gone'" in found.faults[1].message


def test_the_environment_is_asked_when_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "headrace_echo-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace-echo\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\nEcho = nodes.pass_through:PassThrough\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert discover({}).origins["Echo"] == "nodes.pass_through:PassThrough of headrace-echo 1.2"
