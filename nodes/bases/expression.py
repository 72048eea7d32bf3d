"""Expressions on data items: JMESPath, with a bound on the work of one evaluation.

Reasons for JMESPath (https://jmespath.org), through its reference library: it has a specification and a test suite, and
an expression can reach nothing except the JSON that it is applied to. There are no attributes, calls into Python or
loops to keep out, as there would be in a language made from Python's syntax (simpleeval says that it is not a sandbox).
JMESPath does not bound the work: `[@,@][]|[@,@][]|...` doubles with every ten characters. So each value that an
evaluation produces is charged by its size to a step budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.visitor import TreeInterpreter

from nodes.contract import InvalidInput

__all__ = ["MAX_EXPRESSION", "MAX_WORK", "Expression"]

MAX_EXPRESSION = 1_000
"""Greatest length of an expression, in characters."""

MAX_WORK = 100_000
"""Step budget: values that one evaluation may produce, each counted with its nested values; about 10 ms."""

_CHARACTERS = 64
"""Characters of a string that count as one further value."""


class Expression:
    """A JMESPath expression, ready to be applied to data items.

    Raises:
      ValueError: the text is too long, nested too deep, or not JMESPath; the message says where.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_EXPRESSION:
            raise ValueError(f"an expression has at most {MAX_EXPRESSION} characters, this one has {len(text)}")
        try:
            self._tree = jmespath.compile(text).parsed
        except RecursionError:
            raise ValueError(f"the expression {text!r:.80} is nested too deep") from None
        except ValueError as error:  # the base class of all JMESPath errors
            raise ValueError(f"not a JMESPath expression: {error}") from None
        self.text = text

    def __call__(self, value: Mapping[str, Any]) -> Any:
        """Evaluate the expression on a data item's value; the result is any JSON value.

        Raises:
          InvalidInput: the expression cannot be applied to this value, takes too much work, or yields a number that is
            not finite.
        """
        try:
            result = _Metered().visit(self._tree, value)
            _require_json(result)
        except Exception as error:  # the value is at fault for anything that the library raises
            raise InvalidInput(f"{self.text!r:.80} cannot be applied: {type(error).__name__}: {error}") from error
        return result

    def holds(self, value: Mapping[str, Any]) -> bool:
        """Return True if the expression is true of a data item's value; null, as for a missing field, is not true.

        Raises:
          InvalidInput: the expression cannot be applied, or its result is not true, false or null.
        """
        result = self(value)
        if result is not None and not isinstance(result, bool):
            raise InvalidInput(f"{self.text!r:.80} must yield true or false, got {result!r:.80}")
        return bool(result)


class _Metered(TreeInterpreter):  # type: ignore[misc]
    """JMESPath's interpreter with a step budget."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MAX_WORK

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().visit(node, *args, **kwargs)
        self._left -= _size(result, self._left)
        return result


def _size(value: Any, limit: int) -> int:
    """Count a value and all values nested in it.

    Raises:
      OverflowError: there are more than the limit.
    """
    size, waiting = 0, [value]
    while waiting:
        if size + len(waiting) > limit:
            raise OverflowError(f"more than {MAX_WORK} values to process")
        top = waiting.pop()
        size += 1
        if isinstance(top, str):
            size += len(top) // _CHARACTERS
        elif isinstance(top, Mapping):
            waiting.extend(top.values())
        elif isinstance(top, list):
            waiting.extend(top)
    return size


def _require_json(value: Any) -> None:
    waiting = [value]
    while waiting:
        top = waiting.pop()
        if isinstance(top, float) and not math.isfinite(top):
            raise ValueError("a number is not finite")
        if isinstance(top, Mapping):
            waiting.extend(top.values())
        elif isinstance(top, list):
            waiting.extend(top)
        elif not isinstance(top, (str, int, float, bool, type(None))):
            raise TypeError("the result is itself an expression")
