"""Test that the README examples work when pasted: manifests, Python, and the commands behind the figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trustme
from trio.testing import MockClock

from benchmarks.catalogue import make_table, replaced
from engine.manifest import manifest_from_dict, manifest_from_json
from engine.manifest.checker import make_plan
from engine.messages import Chunk, NodeStatus, Result
from engine.serve.command import main as serve
from engine.session import open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN, FAMILIES
from tests.cli.programs import invoke
from tests.e2e.servers import ServerProcess
from transport.server.tokens import hash_token, new_token

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str, kind: str = "run") -> str:
    found = re.search(rf"<!-- {kind}: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no block marked {name!r}"
    return found[1]


def run(source: str, folder: Path) -> str:
    """Run source as a user would after pasting it into a file elsewhere; return its output."""
    file = folder / "pasted.py"
    file.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_manifest_is_valid() -> None:
    found = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert found
    plan = make_plan(manifest_from_dict(json.loads(found[1])), BUILTIN)
    assert list(plan.sources) == ["resample"]
    assert {node.id for node in plan.nodes if node.is_sink} == {"gate", "level"}
    plan.close()


async def test_the_branches_open_and_close(autojump_clock: MockClock) -> None:
    found = re.search(r"<!-- manifest: branches -->\n```json\n(.*?)```", README, re.DOTALL)
    assert found
    async with open_session(manifest_from_dict(json.loads(found[1])), registry=BUILTIN) as session:
        for sequence, loudness in enumerate((0.5, 0.001)):
            await session.send(Chunk(Audio(np.full((320, 1), loudness, np.float32), 16_000), sequence))
        await session.close()
        rows = [event async for event in session if isinstance(event, Result)]
    skipped = [{node.node_id for node in row.nodes if node.status is NodeStatus.SKIPPED} for row in rows]
    assert skipped == [{"louder"}, {"same"}, set()]


def test_the_library_example_measures_a_sine(tmp_path: Path) -> None:
    lines = run(block("library"), tmp_path).splitlines()
    assert lines[-1].startswith("50 chunks, p99 ")
    assert lines[10] == "10 -3.0 dBFS"  # a full-scale sine


def test_the_client_example_runs_against_a_server(tmp_path: Path) -> None:
    with ServerProcess() as server:
        setup = block("library").replace("trio.run(main)", "")
        client = block("client").replace("127.0.0.1:50051", server.address)
        lines = run(f"{setup}\n{client}\ntrio.run(main)\n", tmp_path).splitlines()
    assert "AudioResample" in lines[0]
    assert float(lines[1]) == pytest.approx(-3.01, abs=0.1)


def test_the_reconnecting_example_runs_with_tls_and_a_token(tmp_path: Path) -> None:
    authority, token = trustme.CA(), new_token()
    authority.cert_pem.write_to_path(tmp_path / "cert.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "call-centre.token").write_text(f"{token}\n")
    (tmp_path / "tokens").write_text(f"call-centre:{hash_token(token)}\n")
    names = ("--tls-cert", "server.pem", "--tls-key", "server.pem", "--auth-tokens", "tokens")
    options = [name if name.startswith("--") else str(tmp_path / name) for name in names]
    with ServerProcess(*options) as server:
        setup = block("library").replace("trio.run(main)", "")
        client = block("reconnecting").replace("localhost:50051", f"localhost:{server.address.rpartition(':')[2]}")
        assert run(f"{setup}\n{client}\ntrio.run(main)\n", tmp_path) == "50 delivered\n"


def test_the_grpcio_example_runs_against_a_server(tmp_path: Path) -> None:
    with ServerProcess() as server:
        lines = run(block("grpcio").replace("127.0.0.1:50051", server.address), tmp_path).splitlines()
    results = [json.loads(line.partition(" ")[2]) for line in lines]
    assert len(results) == 51  # 50 chunks and the flush
    assert "".join(result["decisions"] for result in results) == "0" * 33


def test_the_details_of_an_error_are_read(tmp_path: Path) -> None:
    with ServerProcess() as server:
        (line,) = run(block("details").replace("127.0.0.1:50051", server.address), tmp_path).splitlines()
    assert line == "StatusCode.INVALID_ARGUMENT ERROR_TYPE_VALIDATION the stream ended before a manifest came"


def test_the_builder_example_gives_a_manifest(tmp_path: Path) -> None:
    plan = make_plan(manifest_from_json(run(block("builder"), tmp_path)), BUILTIN)
    assert [node.node_type for node in plan.nodes] == ["AudioResample", "VAD", "AudioLevel"]
    plan.close()


def test_a_node_is_written_tested_served_and_called(tmp_path: Path) -> None:
    for name in ("tremolo.py", "test_tremolo.py"):
        (tmp_path / name).write_text(block(name, "file"), encoding="utf-8")
    assert "2 passed" in run("import pytest\npytest.main(['-q', '-p', 'no:cacheprovider'])", tmp_path)
    assert "failed" not in invoke("node", "check", tmp_path / "tremolo.py").stdout
    with ServerProcess("--nodes", str(tmp_path / "tremolo.py")) as server:
        told = run(block("tremolo").replace("127.0.0.1:50051", server.address), tmp_path)
    firsts = [line.split()[:2] for line in told.splitlines()]
    assert firsts == [["0", "16384"], ["1", "10723"], ["2", "1565"], ["3", "1565"], ["4", "10723"]]  # cos at 10 Hz


def test_the_catalogue_is_up_to_date() -> None:
    assert sorted(each.__name__ for family in FAMILIES.values() for each in family) == sorted(BUILTIN), (
        "each in one family"
    )
    table = make_table()
    assert replaced(README, table) == README, "python -m benchmarks catalogue --write"
    assert all(cells[4].strip() for cells in rows(table)), "python -m benchmarks nodes NEW_NODE"


def test_the_flags_of_the_server_are_told_with_their_defaults() -> None:
    table = README.partition("| flag | default | what |\n")[2].partition("\n\n")[0]
    told = {flag: cells[1] for cells in rows(table) for flag in re.findall(r"`(--[a-z-]+)`", cells[0])}
    defaults = {option.opts[0]: option.default for option in serve.params}
    assert told.keys() == {*defaults, "--no-reflection"}
    numbers = {flag: default for flag, default in defaults.items() if type(default) in (int, float)}
    assert {flag: float(told[flag].split()[0]) for flag in numbers} == numbers


def rows(table: str) -> list[list[str]]:
    return [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
