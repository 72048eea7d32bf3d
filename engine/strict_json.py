"""Strict JSON: parse text from outside, with errors that name the fault and its place; and serialize values.

Some input `json.loads` accepts, and some makes it fail in odd ways. Here it is refused with a clear message: NaN and
Infinity, numbers too large for a float, integers with too many digits, nesting too deep, duplicate keys, lone
surrogates, and text that is too long.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

import orjson

__all__ = ["MAX_DEPTH", "MAX_INTEGER_DIGITS", "BadJson", "dump_json", "load_json", "load_json_object"]

MAX_DEPTH = 64
MAX_INTEGER_DIGITS = 100


class BadJson(ValueError):
    """The text is not acceptable JSON; the message says why and, for a syntax error, at which line and column."""


def _refuse_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not a JSON number")


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise BadJson(f"an integer of {len(digits)} digits; the limit is {MAX_INTEGER_DIGITS}")
    return int(digits)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJson(f"the number {text[:40]} is too large")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        double = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise BadJson(f"the key {double!r} appears twice in one object")
    return made


def _check_depth(text: str) -> None:
    """Count brackets outside strings, so that the parser, which recurses, never gets text nested too deep."""
    depth = 0
    inside = escaped = False
    for mark in text:
        if inside:
            if escaped:
                escaped = False
            elif mark == "\\":
                escaped = True
            elif mark == '"':
                inside = False
        elif mark == '"':
            inside = True
        elif mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise BadJson(f"nested deeper than {MAX_DEPTH} levels")
        elif mark in "]}":
            depth -= 1


def load_json(text: str, *, max_bytes: int) -> Any:
    """Parse JSON text.

    Raises:
      BadJson: the text is not JSON, or breaks one of the rules of this module.
    """
    if len(text) > max_bytes or len(_encode(text)) > max_bytes:
        raise BadJson(f"longer than {max_bytes} bytes")
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            parse_float=_parse_float,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    if "\\u" in text:
        _encode(json.dumps(value, ensure_ascii=False))
    return value


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadJson("a string holds half of a surrogate pair") from None


def load_json_object(text: str, *, max_bytes: int) -> dict[str, Any]:
    """Parse JSON text that must be an object; empty text means the empty object.

    Raises:
      BadJson: the text is not JSON, or not an object.
    """
    if not text.strip():
        return {}
    value = load_json(text, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise BadJson(f"must be a JSON object, got {_name(value)}")
    return value


def _name(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


_STRICT = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_AS_JSON_DOES = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def dump_json(value: Any) -> str:
    """Serialize a value as strict JSON; NaN and Infinity raise ValueError.

    orjson does it in a tenth of the time. `json` takes over where orjson differs: it writes null for NaN, and refuses
    NumPy scalars, integers of more than 64 bits, and keys that are not str.

    Raises:
      ValueError, TypeError, RecursionError: as `json.dumps` raises them.
    """
    try:
        text = orjson.dumps(value, option=_AS_JSON_DOES)
    except orjson.JSONEncodeError:
        return _STRICT.encode(value)
    if b"null" in text and orjson.loads(text) != value:
        return _STRICT.encode(value)
    return text.decode()
