"""JSONTransform, Calculator and Accumulator, the nodes that take only data."""

from __future__ import annotations

from fractions import Fraction
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.accumulator import Accumulator
from nodes.calculator import Calculator
from nodes.conformance import check_node
from nodes.contract import Audio, Data, InvalidInput
from nodes.json_transform import JSONTransform


def numbered() -> Any:
    def feed(block: Audio | None) -> Data | None:
        if block is None:
            return None
        seconds = (block.start / block.sample_rate, block.stop / block.sample_rate)
        return Data({"n": block.start, "operands": [block.start, 1]}, *seconds)

    return feed


def transformed(expression: str, value: dict[str, Any]) -> list[Data]:
    return list(JSONTransform(expression=expression).process(Data(value, 1.0, 2.0)))


def calculated(value: dict[str, Any], **params: Any) -> Any:
    (item,) = Calculator(**params).process(Data(value))
    return item.value["result"]


def no_numbers(block: Audio) -> Data:
    return Data({"operands": [block.start, "1"]})


def test_transform_conforms() -> None:
    check_node(
        lambda **params: JSONTransform(**{"expression": "{twice: [n, n]}", **params}),
        feed=numbered,
        formats=("f32",),
        channels=(1,),
        faults=[{"expression": "a["}, {"expression": ""}],
        refuse=lambda block: Data({"n": "x" * 10_000_000}),
    )


def test_calculator_conforms() -> None:
    check_node(
        lambda **params: Calculator(**params),
        feed=numbered,
        formats=("f32",),
        channels=(1,),
        faults=[{"operation": "power"}],
        refuse=no_numbers,
    )


def test_objects_replace_null_drops_and_the_rest_is_wrapped() -> None:
    assert transformed("{words: length(words)}", {"words": ["a", "b"]}) == [Data({"words": 2}, 1.0, 2.0)]
    assert transformed("missing", {}) == []
    assert transformed("a[0]", {"a": [False]}) == [Data({"result": False}, 1.0, 2.0)]


numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(numbers)
def test_sums_are_exact_and_means_are_theirs(operands: list[float]) -> None:
    assert calculated({"operands": operands}) == float(sum(map(Fraction, operands)))
    assert calculated({"operands": operands}, operation="mean") == fmean(operands)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("add", 16), ("subtract", 4), ("multiply", 60), ("divide", 10 / 3 / 2 / 1), ("min", 1), ("max", 10)],
)
def test_operations(operation: str, expected: float) -> None:
    assert calculated({"operation": operation, "operands": [10, 3, 2, 1]}) == expected


def test_fields_are_chosen_and_kept() -> None:
    node = Calculator(operation="max", operands="levels", result="loudest")
    (item,) = node.process(Data({"levels": [-3, -20], "id": 7}, 0.5, 1.0))
    assert item == Data({"levels": [-3, -20], "id": 7, "loudest": -3.0}, 0.5, 1.0)


@pytest.mark.parametrize(
    "value",
    [
        {"operands": []},
        {"operands": [True]},
        {"operands": "12"},
        {},
        {"operands": [10**400]},
        {"operation": "divide", "operands": [1, 0]},
        {"operation": "multiply", "operands": [1e200, 1e200]},
        {"operation": "power", "operands": [2, 2]},
        {"operation": ["add"], "operands": [2, 2]},
        {"operands": [0.0] * 10_001},
    ],
)
def test_what_has_no_finite_result_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        calculated(value)


def test_accumulator_conforms() -> None:
    check_node(
        lambda **params: Accumulator(**{"count": 3, **params}),
        feed=numbered,
        formats=("f32",),
        channels=(1,),
        length=None,
        waits=True,
        faults=[{"count": 0}, {"count": 10_001}, {"seconds": 0}],
    )


@given(st.integers(1, 5), st.integers(0, 17))
def test_accumulates_everything_once_in_order(count: int, n_items: int) -> None:
    node = Accumulator(count=count)
    given = [Data({"n": n}, n, n + 1) for n in range(n_items)]
    out = [each for item in given for each in node.process(item)] + list(node.finish())
    assert [value["n"] for each in out for value in each.value["items"]] == list(range(n_items))
    assert all(each.value["count"] == len(each.value["items"]) <= count for each in out)
    assert all((each.at, each.until) == (v[0]["n"], v[-1]["n"] + 1) for each in out for v in [each.value["items"]])
    assert [each.value["count"] for each in out[:-1]] == [count] * (len(out) - 1)


def test_time_completes_a_collection_too() -> None:
    node = Accumulator(count=100, seconds=2.0)
    assert [len(list(node.process(Data({}, n, n + 1)))) for n in range(5)] == [0, 1, 0, 1, 0]
    assert node.memory_bytes > 0
