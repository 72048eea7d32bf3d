"""Test the JSON Schemas: every example fits, and the validator refuses whatever a schema refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import nodes
from engine.catalogue.schema import manifest_schema, parameters_schema
from engine.errors import ManifestInvalid
from engine.manifest import manifest_from_dict
from engine.manifest.checker import make_plan
from nodes.contract import Node, parameter
from nodes.registry import BUILTIN, with_directories

MANIFEST = manifest_schema(BUILTIN)
CHECK = Draft202012Validator(MANIFEST)
EXAMPLES = {
    path.stem: json.loads(path.read_text()) for path in sorted(Path(nodes.__file__).parent.glob("examples/*.json"))
}


@attrs.define
class Everything(Node):
    """Node with a parameter of every kind."""

    name: str = parameter(help="required")
    count: int = parameter(1, help="whole", at_least=1, at_most=9)
    factor: float = parameter(1.0, help="number", above=0)
    way: str = parameter("up", help="chosen", choices=("up", "down"))
    level: Literal[1, 2, "max"] = parameter(1, help="literal")
    maybe: int | None = parameter(None, help="or null", at_least=0, choices=(0, 1, 2))
    rows: list[list[float]] = parameter([], help="nested")
    gains: dict[str, float] = parameter({}, help="object")
    anything: Any = parameter(0, help="whatever")
    flag: bool = parameter(False, help="yes or no")


REGISTRY = {**BUILTIN, "Everything": Everything}
CHECK_ALL = Draft202012Validator(manifest_schema(REGISTRY))


def valid(manifest: Any, registry: Any = REGISTRY) -> bool:
    """Return True if the validator accepts a manifest."""
    try:
        make_plan(manifest_from_dict(manifest), registry).close()
    except ManifestInvalid:
        return False
    return True


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(MANIFEST)
    for node_class in REGISTRY.values():
        Draft202012Validator.check_schema(parameters_schema(node_class))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_fits(name: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "music.wav", np.zeros(160), 16_000)
    pointed = {**EXAMPLES[name], "$schema": "headrace.schema.json"}
    CHECK.validate(EXAMPLES[name])
    CHECK.validate(pointed)
    assert valid(pointed, with_directories(recordings=tmp_path, media=tmp_path))


def wants(**params: Any) -> dict[str, Any]:
    node = {"id": "n", "node_type": "Everything", "params": {"name": "x", **params}}
    return {"version": "v1", "nodes": [node]}


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"version": "v2", "nodes": [{"id": "a", "node_type": "VAD"}]},
        {"version": "v1", "nodes": []},
        {"version": "v1", "nodes": [{"id": "", "node_type": "VAD"}]},
        {"version": "v1", "nodes": [{"id": "a" * 129, "node_type": "VAD"}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "Vad"}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "VAD", "parms": {}}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "VAD", "params": []}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "VAD", "params": {"agressiveness": 1}}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "VAD", "params": {"aggressiveness": 4}}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "AudioResample"}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "VAD"}], "connections": [{"from": "a"}]},
        {"version": "v1", "nodes": [{"id": "a", "node_type": "VAD"}], "metadata": {"nom": "x"}},
        wants(count=0),
        wants(count="1"),
        wants(factor=0),
        wants(way="left"),
        wants(level=3),
        wants(level=True),
        wants(maybe=7),
        wants(rows=[[1, "2"]]),
        wants(gains={"a": None}),
        wants(flag=1),
    ],
)
def test_a_fault_that_a_schema_can_say_is_refused(manifest: dict[str, Any]) -> None:
    assert not CHECK_ALL.is_valid(manifest)
    assert not valid(manifest)


def test_a_valid_choice_of_everything_is_taken() -> None:
    manifest = wants(count=9, factor=0.5, way="down", level="max", maybe=None, rows=[[1]], gains={"a": 1}, anything=[])
    assert CHECK_ALL.is_valid(manifest)
    assert valid(manifest)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 50_000)
    | st.floats(-2, 9)
    | st.sampled_from(["", "a", "v1", "up", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "name", "id"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) within a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@given(st.data())
@settings(max_examples=400)
def test_what_the_schema_refuses_the_validator_refuses_too(data: st.DataObject) -> None:
    samples = [*EXAMPLES.values(), wants(count=2, level=2, maybe=1, rows=[[1.5]], gains={"a": 1}, way="down")]
    manifest = copy.deepcopy(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(places(manifest)))
        if isinstance(container, dict) and data.draw(st.booleans()):
            key = data.draw(
                st.sampled_from([key, "params", "id", "capabilities", "is_output", "host", "metadata", "x"])
            )
        if data.draw(st.integers(0, 4)):
            container[key] = data.draw(VALUES)
        elif isinstance(container, list) or key in container:
            del container[key]
        if not places(manifest):
            break
    if not CHECK_ALL.is_valid(manifest):
        assert not valid(manifest), next(CHECK_ALL.iter_errors(manifest)).message
