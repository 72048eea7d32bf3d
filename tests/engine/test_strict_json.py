"""Test strict JSON: any text gives plain values or an error that names the fault; values are serialized."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import datetime
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.strict_json import MAX_DEPTH, MAX_INTEGER_DIGITS, BadJson, dump_json, load_json, load_json_object

AMPLE = 1 << 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, column 2"),
        ('{"a": 1,\n "b": }', "line 2, column 7"),
        ("[1, 2] 3", "line 1, column 8"),
        ("", "line 1, column 1"),
        ("'a'", "line 1, column 1"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[Infinity]", "Infinity is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[-1e999]", "the number -1e999 is too large"),
        ("9" * (MAX_INTEGER_DIGITS + 1), "an integer of 101 digits; the limit is 100"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' appears twice"),
        ('[{"x": {"a": 1, "a": 1}}]', "the key 'a' appears twice"),
        (r'["\ud800"]', "half of a surrogate pair"),
        (r'{"\udfff": 1}', "half of a surrogate pair"),
        ('["\ud800"]', "half of a surrogate pair"),
    ],
)
def test_says_what_is_wrong_and_where(text: str, message: str) -> None:
    with pytest.raises(BadJson) as caught:
        load_json(text, max_bytes=AMPLE)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        "9" * MAX_INTEGER_DIGITS,
        '"' + "[{" * 1_000 + '"',
        r'"\"' + "[" * 1_000 + '"',
        "[" + ",".join(["[]"] * 1_000) + "]",
        r'["\ud83d\ude00"]',
        '{"a": {"a": 1}}',
        "1e308",
    ],
)
def test_takes_what_is_just_within_the_rules(text: str) -> None:
    assert load_json(text, max_bytes=AMPLE) == json.loads(text)


def test_length_is_in_bytes() -> None:
    text = '"' + "é" * 10 + '"'
    assert load_json(text, max_bytes=22) == "é" * 10
    with pytest.raises(BadJson, match="longer than 21 bytes"):
        load_json(text, max_bytes=21)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_empty_text_is_the_empty_object(text: str) -> None:
    assert load_json_object(text, max_bytes=AMPLE) == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "an array"),
        ('"a"', "a string"),
        ("1", "a number"),
        ("1.5", "a number"),
        ("true", "a boolean"),
        ("null", "null"),
    ],
)
def test_an_object_has_to_be_an_object(text: str, what: str) -> None:
    with pytest.raises(BadJson, match=f"must be a JSON object, got {what}"):
        load_json_object(text, max_bytes=AMPLE)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(JSON)
def test_gives_what_json_gives(value: Any) -> None:
    assert load_json(json.dumps(value), max_bytes=AMPLE) == value


@given(st.one_of(st.text(), st.text(alphabet='{}[]",:\\u0123dD8 eE-+.truefalsnNI')))
def test_any_text_gives_a_value_or_a_message(text: str) -> None:
    with contextlib.suppress(BadJson):
        value = load_json(text, max_bytes=AMPLE)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def test_the_parser_never_meets_its_own_recursion_limit() -> None:
    """64 levels must fit, even if the caller's stack is deep."""
    assert sys.getrecursionlimit() > MAX_DEPTH * 4


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_dumped_json_says_what_the_standard_library_says(value: Any) -> None:
    """Infinite floats, long integers, half surrogate pairs: always the same value or the same error."""
    try:
        expected = json.loads(json.dumps(value, allow_nan=False))
    except ValueError:
        with pytest.raises(ValueError, match="JSON compliant"):
            dump_json(value)
    else:
        assert json.loads(dump_json(value)) == expected


@attrs.frozen
class _Thing:
    size: int = 1


@pytest.mark.parametrize("value", [{"at": _Thing()}, {"at": datetime(2026, 1, 1)}, {"at": {1, 2}}, {"at": b"x"}])
def test_what_json_cannot_say_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        dump_json(value)


def test_numpy_scalars_and_odd_keys_are_dumped_as_the_standard_library_does() -> None:
    assert dump_json({"rms": np.float64(0.5), 3: None}) == '{"rms":0.5,"3":null}'
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json({"rms": np.float64("nan"), "none": None})
