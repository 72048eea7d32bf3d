"""Test that the documents are true: examples work when pasted, tables agree with the code, and links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import numpy as np
import pytest
import trustme
from trio.testing import MockClock

from benchmarks.__main__ import main as benchmarks
from benchmarks.catalogue import make_table, replaced
from engine.manifest import manifest_from_dict, manifest_from_json
from engine.manifest.checker import make_plan
from engine.messages import Chunk, NodeStatus, Result
from engine.serve.command import main as serve
from engine.session import open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN, FAMILIES
from protos import common_pb2, streaming_pb2
from tests.cli.programs import invoke
from tests.e2e.servers import ServerProcess
from transport.server.access import Statistics
from transport.server.tokens import hash_token, new_token
from transport.service.versions import is_compatible

ROOT = Path(__file__).parent.parent
DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "protos/README.md",
        "nodes/README.md",
        "transport/README.md",
        "engine/README.md",
        "benchmarks/README.md",
        "tests/README.md",
        ".github/CONTRIBUTING.md",
        ".github/SECURITY.md",
        ".github/CHANGELOG.md",
    )
}
README, CATALOGUE, OPERATING = (DOCUMENTS[name] for name in ("README.md", "nodes/README.md", "transport/README.md"))
BLOCKS = {
    "run: eight", "run: library", "run: client", "run: reconnecting", "run: grpcio", "run: details", "run: builder",
    "run: tremolo", "file: tremolo.py", "file: test_tremolo.py", "manifest: branches",
}  # fmt: skip
"""Marked blocks of the documents; a test below runs each."""


def block(name: str, kind: str = "run", language: str = "python") -> str:
    """Return the one block that a document marks so."""
    pattern = rf"<!-- {kind}: {re.escape(name)} -->\n```{language}\n(.*?)```"
    found = [match for text in DOCUMENTS.values() for match in re.findall(pattern, text, re.DOTALL)]
    assert len(found) == 1, f"{len(found)} blocks are marked {name!r}"
    return str(found[0])


def test_every_block_of_python_is_marked_and_run() -> None:
    texts = "\n".join(DOCUMENTS.values())
    assert set(re.findall(r"<!-- ((?:run|file|manifest): \S+) -->", texts)) == BLOCKS
    marked = re.findall(r"<!-- (?:run|file): \S+ -->\n```python\n", texts)
    assert len(marked) == len(re.findall(r"```python\n", texts))


def run(source: str, folder: Path) -> str:
    """Run source as a user would after pasting it into a file elsewhere; return its output."""
    file = folder / "pasted.py"
    file.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=folder,
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engine/public")]), "PATH": ""},
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
    manifest = manifest_from_json(block("branches", "manifest", "json"))
    async with open_session(manifest, registry=BUILTIN) as session:
        for sequence, loudness in enumerate((0.5, 0.001)):
            await session.send(Chunk(Audio(np.full((320, 1), loudness, np.float32), 16_000), sequence))
        await session.close()
        rows = [event async for event in session if isinstance(event, Result)]
    skipped = [{node.node_id for node in row.nodes if node.status is NodeStatus.SKIPPED} for row in rows]
    assert skipped == [{"louder"}, {"same"}, set()]


def test_the_eight_lines_measure_a_level(tmp_path: Path) -> None:
    source = block("eight")
    assert len([line for line in source.splitlines() if line]) <= 8
    assert float(run(source, tmp_path)) == pytest.approx(-6.02, abs=0.01)  # half of full scale


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
    assert f"The catalogue has {len(BUILTIN)} nodes" in README
    assert sorted(each.__name__ for family in FAMILIES.values() for each in family) == sorted(BUILTIN), (
        "each in one family"
    )
    table = make_table()
    assert replaced(CATALOGUE, table) == CATALOGUE, "python -m benchmarks catalogue --write"
    assert all(cells[4].strip() for cells in rows(table)), "python -m benchmarks nodes NEW_NODE"


def test_the_flags_of_the_server_are_told_with_their_defaults() -> None:
    table = OPERATING.partition("| flag | default | what |\n")[2].partition("\n\n")[0]
    told = {flag: cells[1] for cells in rows(table) for flag in re.findall(r"`(--[a-z-]+)`", cells[0])}
    defaults = {option.opts[0]: option.default for option in serve.params}
    assert told.keys() == {*defaults, "--no-reflection"}
    numbers = {flag: default for flag, default in defaults.items() if type(default) in (int, float)}
    assert {flag: float(told[flag].split()[0]) for flag in numbers} == numbers


def test_the_keys_of_the_statistics_are_explained() -> None:
    (line,) = re.findall(r'^\{"connections".*', OPERATING, re.MULTILINE)
    counted = {field.name for field in attrs.fields(Statistics)}
    assert json.loads(line).keys() == {"connections", "calls", *counted, "abandoned_calls", "event_loop_holds"}
    table = OPERATING.partition("| key | meaning |\n")[2].partition("\n\n")[0]
    explained = {key for cells in rows(table) for key in re.findall(r"`(\w+)`", cells[0])}
    assert explained == json.loads(line).keys()


def test_the_commands_of_the_benchmarks_are_there() -> None:
    text = DOCUMENTS["benchmarks/README.md"]
    table = text.partition("| `python -m benchmarks …` |")[2].partition("\n\n")[0]
    listed = [cells[0].strip(" `") for cells in rows(table)]
    whole = re.findall(r"^python -m benchmarks (.*?)(?:\s+#|$)", text, re.MULTILINE)
    whole += re.findall(r"`python -m benchmarks (\w[^`]*)`", text)
    for line in (*listed, *whole):
        name, *arguments = line.split()
        command = benchmarks.commands[name]
        flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        assert {each for each in arguments if each.startswith("--")} <= flags, line
    named = {line.split()[0] for line in listed} | set(re.findall(r"`(\w+)(?: --write)?`", text))
    named |= {line.split()[0] for line in whole}
    assert isinstance(benchmarks, click.Group)
    assert benchmarks.commands.keys() <= named


def test_the_table_of_versions_is_the_matrix() -> None:
    table = DOCUMENTS["protos/README.md"].partition("| client version |")[2].partition("\n\n")[0]
    stated = {}
    for line in table.splitlines()[2:]:
        versions, verdict = line.split("|")[1:3]
        for version in re.findall(r"`(.*?)`", versions) or [""]:
            stated[version] = verdict.strip() == "compatible"
    assert set(stated.values()) == {True, False}
    assert {version: is_compatible(version) for version in stated} == stated


def test_the_additions_have_their_numbers() -> None:
    table = DOCUMENTS["protos/README.md"].partition("| message | field | meaning |\n")[2].partition("\n\n")[0]
    messages = {**common_pb2.DESCRIPTOR.message_types_by_name, **streaming_pb2.DESCRIPTOR.message_types_by_name}
    message, seen = None, 0
    for line in table.splitlines()[1:]:
        name, fields, _ = line.split("|")[1:4]
        message = messages[name.strip(" `")] if name.strip() else message
        for field, number in re.findall(r"`(\w+)` \((\d+)\)", fields):
            assert message is not None
            values = {each.name: each.number for kind in message.enum_types for each in kind.values}
            numbers = {each.name: each.number for each in message.fields} | values
            assert numbers[field] == int(number), (message.name, field)
            seen += 1
    assert seen > 30


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(DOCUMENTS[name])):
        if target.startswith(("http:", "https:")):
            continue
        path = (folder / target).resolve() if target else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name}: {target}#{anchor}"


def test_links_to_a_heading_are_as_a_forge_writes_them() -> None:
    text = "# One\n## Who runs a `node`\n```sh\n# no heading\n```\n### A (b), c: d\n## One\n"
    assert list(anchors(text)) == ["one", "who-runs-a-node", "a-b-c-d", "one-1"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tests_that_are_named_are_there(name: str) -> None:
    """Named `FILE::NAME` or `FOLDER/FILE::NAME`; without a folder, in the one that the document states."""
    usual = {"engine/README.md": "engine"}.get(name, "transport")
    named = re.findall(r"`(?:(\w+)/)?(test_\w+)::(\w+)`", DOCUMENTS[name])
    for folder, module, test in named:
        text = (ROOT / "tests" / (folder or usual) / f"{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"^\s*(?:async )?(?:def|class) {test}\b", text, re.MULTILINE), f"{module}::{test}"
    assert named or name not in ("transport/README.md", "engine/README.md", ".github/SECURITY.md")


def test_cases_of_abuse_that_are_named_are_there() -> None:
    from tests.transport.test_abuse import MADE_RESETS, WHOLE_CONNECTION, TestNeighbours

    there = {row[0] for row in WHOLE_CONNECTION} | set(MADE_RESETS) | set(TestNeighbours.FLOODS)
    named = re.findall(r"(?:`|the same) \[([^]]+)\] ?(?:\||,)", DOCUMENTS[".github/SECURITY.md"])
    cases = {case for names in named for case in names.split(", ")}
    assert len(cases) > 10
    assert cases <= there


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> Iterator[str]:
    """Yield the anchors of a document's headings, as forges make them."""
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.*)", prose(text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        count = seen[anchor] = seen.get(anchor, -1) + 1
        yield f"{anchor}-{count}" if count else anchor


def rows(table: str) -> list[list[str]]:
    return [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
