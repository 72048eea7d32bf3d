"""Expressions on data items: JMESPath, with the work that one evaluation may do bounded.

Why JMESPath (https://jmespath.org), through its reference library: an expression can reach nothing but the JSON it is
given, in a language with a specification and a test suite of its own; there are no attributes, calls into Python or
loops to keep out, as there would be in anything made from Python's own syntax (simpleeval calls itself no sandbox).
What it does not bound is work: `[@,@][]|[@,@][]|...` doubles with every ten characters. So every value that an
evaluation comes by is paid for by its size.
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
"""Characters of an expression."""

MAX_WORK = 100_000
"""Values that one evaluation may come by, counted with all that is in them; about 10 ms."""

_CHARACTERS = 64
"""Characters of a string that count as one value."""


class Expression:
    """A JMESPath expression, ready to be applied to data items.

    Raises:
      ValueError: it is too long, or no JMESPath; the message says where.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_EXPRESSION:
            raise ValueError(f"an expression has at most {MAX_EXPRESSION} characters, this has {len(text)}")
        try:
            self._tree = jmespath.compile(text).parsed
        except RecursionError:
            raise ValueError(f"the expression {text!r:.80} is nested too deep") from None
        except ValueError as error:  # all of JMESPath's errors are
            raise ValueError(f"no JMESPath expression: {error}") from None
        self.text = text

    def __call__(self, value: Mapping[str, Any]) -> Any:
        """What the expression makes of a data item's value: anything JSON can say.

        Raises:
          InvalidInput: it cannot be applied to this value, takes too much work, or gives a number that is not finite.
        """
        try:
            result = _Metered().visit(self._tree, value)
            _require_json(result)
        except Exception as error:  # whatever the library raises is due to this value
            raise InvalidInput(f"{self.text!r:.80} cannot be applied: {type(error).__name__}: {error}") from error
        return result

    def holds(self, value: Mapping[str, Any]) -> bool:
        """Whether it is true of a data item's value; null, which is what a missing field gives, is not.

        Raises:
          InvalidInput: it cannot be applied, or gives something else than true, false or null.
        """
        result = self(value)
        if result is not None and not isinstance(result, bool):
            raise InvalidInput(f"{self.text!r:.80} must give true or false, got {result!r:.80}")
        return bool(result)


class _Metered(TreeInterpreter):  # type: ignore[misc]
    """JMESPath's own interpreter, with a purse."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MAX_WORK

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().visit(node, *args, **kwargs)
        self._left -= _size(result, self._left)
        return result


def _size(value: Any, limit: int) -> int:
    """How many values there are in a value, itself included.

    Raises:
      OverflowError: more than the limit.
    """
    size, waiting = 0, [value]
    while waiting:
        if size + len(waiting) > limit:
            raise OverflowError(f"more than {MAX_WORK} values to work on")
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
            raise TypeError("the result is an expression itself")
