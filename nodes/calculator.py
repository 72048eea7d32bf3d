"""Calculator: arithmetic on numbers in data."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from nodes.contract import Data, InvalidInput, Kind, Node, parameter

__all__ = ["Calculator"]

MAX_OPERANDS = 10_000

_OPERATIONS: Mapping[str, Callable[[list[float]], float]] = {
    "add": math.fsum,
    "subtract": functools.partial(functools.reduce, operator.sub),
    "multiply": math.prod,
    "divide": functools.partial(functools.reduce, operator.truediv),
    "mean": lambda operands: math.fsum(operands) / len(operands),
    "min": min,
    "max": max,
}


@attrs.define
class Calculator(Node):
    """Apply an operation to the numbers of each data item: `{"operands": [1, 2]}` becomes `{..., "result": 3.0}`.

    The item keeps its other fields and its time. An item may name its own `operation`. `subtract` and `divide` go from
    left to right. Arithmetic is in float64 (IEEE 754); a sum is rounded only once (`math.fsum`).
    """

    operation: str = parameter("add", help="operation for items that do not name one", choices=tuple(_OPERATIONS))
    operands: str = parameter("operands", help="field with the numbers: a list, or one number")
    result: str = parameter("result", help="field for the result")

    takes = Kind.DATA
    gives = Kind.DATA

    def process(self, item: Data) -> Iterable[Data]:
        """Apply the operation to one item.

        Raises:
          InvalidInput: there are no numbers or too many, the operation is unknown, or the result is not finite.
        """
        operation = item.value.get("operation", self.operation)
        if not isinstance(operation, str) or operation not in _OPERATIONS:
            raise InvalidInput(f"operation must be one of {', '.join(_OPERATIONS)}, got {operation!r:.80}")
        operands = self._operands(item.value)
        try:
            result = _OPERATIONS[operation](operands)
        except (ArithmeticError, ValueError) as error:
            raise InvalidInput(f"cannot {operation} {operands!r:.80}: {error}") from error
        if not math.isfinite(result):
            raise InvalidInput(f"cannot {operation} {operands!r:.80}: the result is not finite")
        return (Data({**item.value, self.result: result}, item.at, item.until),)

    def _operands(self, value: Mapping[str, Any]) -> list[float]:
        given = value.get(self.operands)
        operands: list[Any] = given if isinstance(given, list) else [given]
        if not 1 <= len(operands) <= MAX_OPERANDS or not all(map(_is_number, operands)):
            raise InvalidInput(f"{self.operands!r} must be 1 to {MAX_OPERANDS} numbers, got {given!r:.80}")
        try:
            return [float(operand) for operand in operands]
        except OverflowError as error:
            raise InvalidInput(f"{self.operands!r} has a number outside the range of float64") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
