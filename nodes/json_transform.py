"""JSONTransform: new data made from existing data."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.bases.expression import Expression
from nodes.contract import Data, Kind, Node, parameter

__all__ = ["JSONTransform"]


@attrs.define
class JSONTransform(Node):
    """Transform each data item with a JMESPath expression (https://jmespath.org): pick, rename, filter, count.

    The expression sees only the item's value. If its result is an object, that is the new value; null discards the
    item; anything else becomes `{"result": ...}`. The item keeps its time. An expression has at most 1,000 characters,
    and an item that takes too much work is rejected.
    """

    expression: str = parameter(help="JMESPath, such as {text: text, words: length(words)}")
    _expression: Expression = attrs.field(init=False, repr=False)

    takes = Kind.DATA
    gives = Kind.DATA

    def __attrs_post_init__(self) -> None:
        self._expression = Expression(self.expression)

    def process(self, item: Data) -> Iterable[Data]:
        """Transform one item.

        Raises:
          InvalidInput: the expression cannot be applied to the item, or takes too much work.
        """
        result = self._expression(item.value)
        if result is None:
            return ()
        return (Data(result if isinstance(result, dict) else {"result": result}, item.at, item.until),)
