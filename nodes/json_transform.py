"""JSONTransform: other data out of those that are there."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.bases.expression import Expression
from nodes.contract import Data, Kind, Node, parameter

__all__ = ["JSONTransform"]


@attrs.define
class JSONTransform(Node):
    """Make a new data item of each by a JMESPath expression (https://jmespath.org): pick, rename, filter, count.

    The expression sees the item's value and nothing else. An object that it gives is the new value, null drops the
    item, anything else becomes `{"result": ...}`. The item keeps its time. At most 1,000 characters, and a bounded
    amount of work for each item; more is refused.
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
          InvalidInput: the expression cannot be applied to it.
        """
        result = self._expression(item.value)
        if result is None:
            return ()
        return (Data(result if isinstance(result, dict) else {"result": result}, item.at, item.until),)
