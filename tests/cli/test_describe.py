"""Commands without a stream: `headrace nodes`, `headrace validate`, `headrace schema` and help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.cli import main
from nodes.registry import BUILTIN
from tests.cli.programs import invoke, lines_of, run_program, write_manifest


def test_every_node_type_has_one_line() -> None:
    listed = [line.split()[0] for line in invoke("nodes").stdout.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(BUILTIN)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_node_type_is_described_for_people_and_machines(name: str) -> None:
    told = invoke("nodes", name).stdout
    assert told.startswith(f"{name}: ")
    (facts,) = lines_of(invoke("nodes", name, "--json").stdout)
    assert facts["description"]
    for parameter in facts["parameters"]:
        assert parameter["help"]
        assert f"  {parameter['name']} " in told
    assert facts["takes"]
    assert facts["example"]["nodes"]
    assert f'"node_type": "{name}"' in told


def test_what_is_missing_and_where_it_comes_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import attrs\nfrom nodes.contract import Node\nfrom nodes.libraries.extras import require\n"
        "@attrs.define\nclass Far(Node):\n    'Go far.'\n    extra = 'dsp'\n"
        "    def __attrs_post_init__(self):\n        require('far_away', 'dsp')\n"
        "    def process(self, item):\n        return [item]\n"
    )
    listed = invoke("nodes", "--nodes", tmp_path / "mine.py").stdout.splitlines()[-1]
    assert listed.split()[0] == "Far"
    assert "[needs far_away, which is not installed: pip install 'headrace[dsp]']" in listed
    assert f"[{tmp_path / 'mine.py'}]" in listed


def test_parameters_are_told_with_type_default_and_bounds() -> None:
    (facts,) = lines_of(invoke("nodes", "AudioResample", "--json").stdout)
    rate, converter = facts["parameters"][:2]
    assert (rate["required"], rate["type"]) == (True, "a whole number")
    assert rate["at_most"] > 48_000
    assert (converter["default"], "linear" in converter["choices"]) == ("sinc_fastest", True)


def test_a_slip_in_a_name_is_answered_with_the_nearest() -> None:
    done = invoke("nodes", "vad")
    assert (done.exit_code, "did you mean VAD?" in done.stderr) == (2, True)


def test_a_valid_manifest_is_described(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.json", {"v": "VAD", "in": "PassThrough"}, [("in", "v")])
    done = invoke("validate", manifest)
    assert done.exit_code == 0
    assert done.stdout.startswith("valid: 2 nodes, source in, sink v, delay up to ")
    (facts,) = lines_of(invoke("validate", manifest, "--json").stdout)
    assert (facts["valid"], facts["order"], facts["sources"], facts["sinks"]) == (True, ["in", "v"], ["in"], ["v"])


@pytest.mark.parametrize("name", ["demo.json", "default.json"])
def test_the_manifests_that_ship_are_valid(name: str) -> None:
    assert invoke("validate", Path(__file__).parents[2] / "engine/cli/data" / name).exit_code == 0


def test_every_fault_is_listed_with_its_path() -> None:
    bad = {"version": "v2", "nodes": [{"id": "", "node_type": "VAD"}], "connections": [{"from": "x", "to": "y"}]}
    done = invoke("validate", "-", input=json.dumps(bad))
    assert done.exit_code == 1
    for path in ("version: ", "nodes[0].id: ", "connections[0].from: ", "connections[0].to: "):
        assert path in done.stdout
    as_json = invoke("validate", "-", "--json", input=json.dumps(bad))
    (told,) = lines_of(as_json.stdout)
    assert (as_json.exit_code, told["valid"], len(told["faults"])) == (1, False, 4)


def test_a_slip_of_syntax_has_line_and_column() -> None:
    done = invoke("validate", "-", input='{\n  "version" "v1"}')
    assert (done.exit_code, "line 2, column 13" in done.stdout) == (1, True)


def test_a_manifest_that_cannot_be_read_exits_2(tmp_path: Path) -> None:
    assert invoke("validate", tmp_path / "none.json").exit_code == 2


def test_terminal_codes_in_ids_do_no_harm(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.json", {"\x1b[31mred": "VAD"})
    assert "\x1b" not in invoke("validate", manifest).stdout


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_help_is_there(command: list[str]) -> None:
    done = invoke(*command, "-h")
    assert done.exit_code == 0
    assert not command or f"\nExample:\n  headrace {command[0]}" in done.stdout


def test_the_module_runs_from_elsewhere() -> None:
    done = run_program("--version")
    assert (done.code, done.out.startswith("headrace, version ")) == (0, True)


def test_schemas_are_printed_of_manifests_and_of_one_node() -> None:
    whole = json.loads(invoke("schema").stdout)
    assert sorted(whole["$defs"]) == sorted(BUILTIN)
    one = json.loads(invoke("schema", "AudioResample").stdout)
    assert (one["title"], one["required"]) == ("AudioResample", ["target_sample_rate"])
    assert "did you mean VAD?" in invoke("schema", "vda").stderr
