"""Test the shape of manifests from dicts, JSON and files: every field is read, and every fault has its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ManifestInvalid
from engine.manifest import (
    MAX_MANIFEST_BYTES,
    Capabilities,
    Connection,
    Cpu,
    Gpu,
    Manifest,
    NodeSpec,
    load_manifest,
    manifest_from_dict,
    manifest_from_json,
)

WHOLE = {
    "version": "v1",
    "metadata": {"name": "n", "description": "d", "created_at": "2024-01-01T00:00:00Z"},
    "nodes": [
        {
            "id": "a",
            "node_type": "Gain",
            "params": {"gain_db": 3},
            "is_streaming": True,
            "capabilities": {
                "gpu": {"type": "cuda", "min_memory_gb": 2, "required": True},
                "cpu": {"cores": 2, "arch": "x86_64"},
                "memory_gb": 0.5,
            },
            "host": "here",
            "runtime_hint": "RUNTIME_HINT_CPYTHON",
            "is_output": True,
        },
        {"id": "b", "node_type": "Gain", "params": '{"gain_db": 3}', "runtime_hint": "unspecified"},
    ],
    "connections": [{"from": "a", "to": "b"}],
}
MEANT = Manifest(
    "v1",
    (
        NodeSpec(
            "a",
            "Gain",
            {"gain_db": 3},
            True,
            Capabilities(Gpu("cuda", 2.0, True), Cpu(2, "x86_64"), 0.5),
            "here",
            "cpython",
            True,
        ),
        NodeSpec("b", "Gain", '{"gain_db": 3}'),
    ),
    (Connection("a", "b"),),
    "n",
    "d",
    "2024-01-01T00:00:00Z",
)


def faults(value: Any) -> list[str]:
    with pytest.raises(ManifestInvalid) as caught:
        manifest_from_dict(value)
    return [str(fault) for fault in caught.value.faults]


def test_every_field_is_read() -> None:
    assert manifest_from_dict(WHOLE) == MEANT
    assert manifest_from_json(json.dumps(WHOLE)) == MEANT


def test_what_is_left_out_or_null_is_the_default() -> None:
    assert manifest_from_dict({}) == Manifest("", ())
    assert manifest_from_dict({"version": "v1", "metadata": None, "nodes": [{"id": None}]}) == Manifest(
        "v1", (NodeSpec("", ""),)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], ["manifest: must be an object, got list"]),
        (None, ["manifest: must be an object, got NoneType"]),
        ({"versoin": "v1"}, ["versoin: unknown key; known are version, metadata, nodes, connections, $schema"]),
        ({"version": 1}, ["version: must be a string, got 1"]),
        ({"nodes": {}}, ["nodes: must be a list, got {}"]),
        ({"nodes": [7]}, ["nodes[0]: must be an object, got int"]),
        ({"nodes": [{"id": True}]}, ["nodes[0].id: must be a string, got True"]),
        ({"nodes": [{"params": []}]}, ["nodes[0].params: must be an object, or a string that holds one, got []"]),
        ({"nodes": [{"is_output": 1}]}, ["nodes[0].is_output: must be true or false, got 1"]),
        (
            {"nodes": [{"capabilities": {"cpu": {"cores": 1.5}}}]},
            ["nodes[0].capabilities.cpu.cores: must be a whole number, got 1.5"],
        ),
        (
            {"nodes": [{"capabilities": {"memory_gb": True}}]},
            ["nodes[0].capabilities.memory_gb: must be a number, got True"],
        ),
        (
            {"nodes": [{"capabilities": {"memory_gb": 10**400}}]},
            ["nodes[0].capabilities.memory_gb: must be a number of at most 1e300"],
        ),
        (
            {"nodes": [{"runtime_hint": "jvm"}]},
            [
                "nodes[0].runtime_hint: must be one of unspecified, rustpython, cpython, cpython_wasm, auto, got 'jvm'",
            ],
        ),
        ({"connections": [{"from": "a", "to": 3}]}, ["connections[0].to: must be a string, got 3"]),
        ({"connections": [["a", "b"]]}, ["connections[0]: must be an object, got list"]),
        ({"metadata": {"author": "x"}}, ["metadata.author: unknown key; known are name, description, created_at"]),
        (
            {"version": 1, "nodes": [{"id": 2, "nodetype": "x"}, 3]},
            [
                "version: must be a string, got 1",
                "nodes[0].nodetype: unknown key; known are id, node_type, params, is_streaming, capabilities, host,"
                " runtime_hint, is_output",
                "nodes[0].id: must be a string, got 2",
                "nodes[1]: must be an object, got int",
            ],
        ),
    ],
)
def test_each_fault_at_its_path(value: Any, expected: list[str]) -> None:
    assert sorted(faults(value)) == sorted(expected)


def test_json_faults_have_line_and_column() -> None:
    with pytest.raises(ManifestInvalid, match=r"not JSON: .* at line 2, column 12"):
        manifest_from_json('{"version": "v1",\n "nodes": [}')


def test_a_manifest_may_have_a_megabyte() -> None:
    text = json.dumps(WHOLE)
    assert manifest_from_json(text + " " * (MAX_MANIFEST_BYTES - len(text))) == MEANT
    with pytest.raises(ManifestInvalid, match="longer than 1048576 bytes"):
        manifest_from_json(text + " " * (MAX_MANIFEST_BYTES - len(text) + 1))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(WHOLE), "utf-8-sig")
    assert load_manifest(path) == load_manifest(str(path)) == MEANT
    path.write_bytes(b'{"version": "\xff"}')
    with pytest.raises(ManifestInvalid, match="not UTF-8 at byte 13"):
        load_manifest(path)
    path.write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ManifestInvalid, match="longer than"):
        load_manifest(path)
    with pytest.raises(FileNotFoundError):
        load_manifest(tmp_path / "none.json")
