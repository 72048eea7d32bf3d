"""Expressions follow JMESPath's specification; none can take long or reach beyond its data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.bases.expression import MAX_EXPRESSION, Expression
from nodes.contract import InvalidInput

pytestmark = pytest.mark.filterwarnings("ignore:deprecated string literal syntax")  # JMESPath still accepts it

LOCATIONS = {
    "locations": [
        {"name": "Seattle", "state": "WA"},
        {"name": "New York", "state": "NY"},
        {"name": "Bellevue", "state": "WA"},
        {"name": "Olympia", "state": "WA"},
    ]
}


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [  # the examples of jmespath.org's tutorial and front page
        ("a.b.c.d", {"a": {"b": {"c": {"d": "value"}}}}, "value"),
        (
            "locations[?state == 'WA'].name | sort(@) | {WashingtonCities: join(', ', @)}",
            LOCATIONS,
            {"WashingtonCities": "Bellevue, Olympia, Seattle"},
        ),
        ("people[?age > `20`].[name, age]", {"people": [{"name": "Bob", "age": 30}, {"age": 3}]}, [["Bob", 30]]),
        ("missing", {}, None),
    ],
)
def test_is_jmespath(text: str, value: dict[str, Any], expected: Any) -> None:
    assert Expression(text)(value) == expected


@pytest.mark.parametrize("text", ["", "a.", "a[", "nope(", "`1", "(" * 900, "x" * (MAX_EXPRESSION + 1)])
def test_bad_expressions_are_told_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        Expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "[@, @]" + " | [@, @][]" * 60,
        "[@, @]" + " | [@, @]" * 60 + " | to_string(@)",
        "s" + " | join(@, [@, @])" * 50,
        "[a" + " | [@, @]" * 40 + ", b" + " | [@, @]" * 40 + "] | [0] == [1]",
        "big[*].[@, @, @, @, @, @, @, @, @, @]",
    ],
)
def test_work_is_bounded(text: str) -> None:
    with pytest.raises(InvalidInput, match="more than 100000 values"):
        Expression(text)({"s": "x" * 80, "a": 1, "b": 1, "big": [[1, 2]] * 10_000})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("to_number(a)", {"a": "nan"}),
        ("[to_number(a)]", {"a": "1e999"}),
        ("sum(a)", {"a": [1e308, 1e308]}),
        ("sum(a)", {"a": "no list"}),
        ("nosuch(a)", {}),
    ],
)
def test_what_cannot_be_applied_or_said_in_json_is_refused(text: str, value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="cannot be applied"):
        Expression(text)(value)


def test_only_truth_values_are_conditions() -> None:
    assert Expression("a > `1`").holds({"a": 2})
    assert not Expression("a > `1`").holds({"a": 1})
    assert not Expression("a > `1`").holds({})
    with pytest.raises(InvalidInput, match="must yield true or false"):
        Expression("a").holds({"a": 0.0})


JSON = st.recursive(
    st.sampled_from([None, True, False, 0, -3, 2.5, 1e308, 10**30, "", "a", "nan", "1e999"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
PARTS = st.sampled_from([*"abc.[]{}()|&@*?!:,`'\"0<", "==", "sort(", "to_number(", "map(&", "to_string(", "[*]"])


@given(st.lists(PARTS, max_size=14).map("".join), st.dictionaries(st.sampled_from("abc"), JSON))
def test_whatever_is_asked_the_answer_is_json_or_a_refusal(text: str, value: dict[str, Any]) -> None:
    try:
        expression = Expression(text)
    except ValueError:
        return
    try:
        result = expression(value)
    except InvalidInput:
        return
    json.dumps(result, allow_nan=False)
