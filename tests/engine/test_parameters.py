"""Test the check of node parameters: types and bounds, every fault at its path, before a node is built."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import pytest

from engine.errors import Fault
from engine.manifest.parameters import build_node, parameter_fields, type_name
from nodes.contract import Node, parameter


@attrs.define(eq=False)
class Sample(Node):
    whole: int = parameter(0, help="a whole number", at_least=-1, at_most=9)
    real: float = parameter(0.5, help="a number", above=0)
    flag: bool = parameter(False, help="a flag")
    text: str = parameter("", help="text")
    maybe: int | None = parameter(None, help="a number or nothing", at_least=1)
    many: list[float] = parameter([], help="numbers")
    table: dict[str, int] = parameter({}, help="numbers by name")
    one_of: Literal["x", "y"] = parameter("x", help="x or y")
    anything: Any = parameter(None, help="whatever")


@attrs.define(eq=False)
class Needy(Node):
    must: int = parameter(help="needed for a reason")
    low: int = parameter(0, help="lower end")
    high: int = attrs.field(default=9)

    @high.validator
    def _above_low(self, attribute: attrs.Attribute[int], value: int) -> None:
        if value <= self.low:
            raise ValueError(f"high must be above low, got {value}")


@attrs.define(eq=False)
class Fragile(Node):
    def __attrs_post_init__(self) -> None:
        raise OSError("no model")


def build(node_class: type[Node], **params: Any) -> tuple[Any, list[str]]:
    faults: list[Fault] = []
    node = build_node(node_class, params, "nodes[2].params", faults)
    assert (node is None) == bool(faults)
    return node, [str(fault).removeprefix("nodes[2].params") for fault in faults]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("whole", -1),
        ("whole", 9),
        ("real", 1),
        ("real", 1e-9),
        ("flag", True),
        ("text", "é"),
        ("maybe", None),
        ("maybe", 1),
        ("many", []),
        ("many", [1, 2.5]),
        ("table", {"a": 1}),
        ("one_of", "y"),
        ("anything", {"deep": [None, True]}),
    ],
)
def test_what_fits_is_taken_as_it_is(name: str, value: Any) -> None:
    node, faults = build(Sample, **{name: value})
    assert not faults
    assert getattr(node, name) == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("whole", 10, "must be at most 9, got 10"),
        ("whole", -2, "must be at least -1, got -2"),
        ("whole", 1.0, "must be a whole number, got 1.0"),
        ("whole", True, "must be a whole number, got True"),
        ("whole", "1", "must be a whole number, got '1'"),
        ("whole", None, "must be a whole number, got None"),
        ("real", 0, "must be positive, got 0"),
        ("real", "x", "must be a number, got 'x'"),
        ("real", True, "must be a number, got True"),
        ("real", 10**400, "must be a number"),
        ("flag", 1, "must be true or false, got 1"),
        ("text", 5, "must be a string, got 5"),
        ("maybe", 0, "must be at least 1, got 0"),
        ("maybe", "x", "must be a whole number or null, got 'x'"),
        ("many", 1, "must be a list, each a number, got 1"),
        ("many", [1, "x"], "must be a list, each a number, got [1, 'x']"),
        ("table", {"a": "b"}, "must be an object, each value a whole number, got {'a': 'b'}"),
        ("one_of", "z", "must be one of 'x', 'y', got 'z'"),
        ("one_of", [], "must be one of 'x', 'y', got []"),
        ("nope", 1, "unknown parameter; known are whole, real,"),
    ],
)
def test_what_does_not_fit_is_a_fault_at_its_path(name: str, value: Any, message: str) -> None:
    _, (fault,) = build(Sample, **{name: value})
    assert fault.startswith(f".{name}: {message}")
    assert len(fault) < 250


def test_all_faults_are_reported_together() -> None:
    _, faults = build(Sample, whole=10, real=-1, nope=1)
    assert [fault.split(":")[0] for fault in faults] == [".nope", ".whole", ".real"]


def test_a_required_parameter_says_what_it_is_for() -> None:
    _, faults = build(Needy)
    assert faults == [".must: is required: needed for a reason"]


def test_a_validator_that_looks_at_other_parameters_is_asked_when_there_is_a_node() -> None:
    assert build(Needy, must=1, low=3, high=4)[1] == []
    assert build(Needy, must=1, low=5, high=4)[1] == [": high must be above low, got 4"]


def test_a_node_that_cannot_be_built_is_a_fault_whatever_it_raises() -> None:
    assert build(Fragile)[1] == [": Fragile cannot be built: OSError: no model"]


def test_mutable_defaults_are_each_nodes_own() -> None:
    first, second = build(Sample)[0], build(Sample)[0]
    assert first.many is not second.many
    assert first.table is not second.table


def test_fields_that_are_no_parameters_are_not_offered() -> None:
    @attrs.define(eq=False)
    class Inner(Node):
        shown: int = parameter(1, help="shown")
        _state: int = attrs.field(init=False, default=0)

    assert list(parameter_fields(Inner)) == ["shown"]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or null"),
        (list[str], "a list, each a string"),
        (dict[str, bool], "an object, each value true or false"),
        (Literal["a", 1], "one of 'a', 1"),
        (Any, "any value"),
    ],
)
def test_types_in_the_words_of_json(hint: Any, words: str) -> None:
    assert type_name(hint) == words
