"""What a node is: the one module that a node author needs, and the only one that the engine knows of nodes.

The rules of the contract:

* A node is an attrs class. Its parameters are its fields, declared with `parameter(...)`; building one is
  cheap and holds no resource. attrs runs validators whenever a node's own field is set (about 1 us), so state
  that changes with every item is best kept in an object of its own.
* `process` gets one item (a `Join` gets the items of one row) and yields what comes of it, maybe nothing.
* `finish` yields the tail and leaves the node as fresh as it was built; `close` is called exactly once, at
  the end.
* A node refuses an item by raising `InvalidInput` *before* it has changed its state. Any other exception is a
  failure and ends the session.
* A node with several downstream nodes gives each of them everything. One that says `routes` may wrap an item in
  `To`, for one of them alone; the others have nothing to do then, and are skipped in that row.
* A node that computes with samples refuses NaN and infinity; one that only moves samples passes them on.
* Everything is synchronous. A node that is slow or blocks says `placement = "thread"`.
* Samples are worked on as float32 (`Audio.as_float32`) and given back in the format they came in
  (`Audio.derive`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

from nodes.items import (
    FULL_SCALE,
    MAX_CHANNELS,
    MAX_SAMPLE_RATE,
    Audio,
    Data,
    Float32,
    InvalidInput,
    Item,
    Kind,
    Samples,
    from_float32,
    rounded,
    to_float32,
)
from nodes.items import SampleFormat as SampleFormat
from nodes.items import unchecked_audio as unchecked_audio

__all__ = [
    "FULL_SCALE",
    "MAX_CHANNELS",
    "MAX_SAMPLE_RATE",
    "AnyNode",
    "Audio",
    "Data",
    "Float32",
    "InvalidInput",
    "Item",
    "Join",
    "Kind",
    "Node",
    "Samples",
    "To",
    "from_float32",
    "parameter",
    "rounded",
    "to_float32",
]


@attrs.frozen
class To:
    """An item for one downstream node alone; only a node that `routes` gives such.

    Attributes:
      target: Id of a node that this one leads to.
      item: What it is to get.
    """

    target: str
    item: Item


def parameter(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Declare a node's parameter: its default (required without one), its meaning and what it may be.

    The declared type (`int`, `float`, `bool`, `str`, `list[...]`, `dict[str, ...]`, `... | None`) is checked
    where parameters come in; these bounds are checked whenever the node is built.

    Args:
      default: A value, or nothing for a required parameter; a mutable one is copied for each node.
      help: One line, with the unit.
      at_least: Lowest allowed number.
      at_most: Highest allowed number.
      above: The number has to be greater than this.
      choices: The only values allowed.
    """

    def check(node: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        del node, attribute
        if value is None:
            return
        if choices is not None and value not in choices:
            raise ValueError(f"must be one of {', '.join(map(repr, choices))}, got {value!r}")
        if above is not None and not value > above:
            raise ValueError(f"must be {'positive' if above == 0 else f'greater than {above}'}, got {value!r}")
        if at_least is not None and not value >= at_least:
            raise ValueError(f"must be at least {at_least}, got {value!r}")
        if at_most is not None and not value <= at_most:
            raise ValueError(f"must be at most {at_most}, got {value!r}")

    facts = {"help": help, "at_least": at_least, "at_most": at_most, "above": above, "choices": choices}
    if isinstance(default, (dict, list)):
        made: Callable[[], Any] = default.copy
        return attrs.field(factory=made, validator=check, metadata=facts)
    return attrs.field(default=default, validator=check, metadata=facts)


class _Common:
    """What `Node` and `Join` share."""

    __slots__ = ()

    placement: ClassVar[Literal["inline", "thread"]] = "inline"
    extra: ClassVar[str] = ""
    """The optional extra that brings the library it needs; without that library it cannot be built. The first of its
    class is built in a thread, for loading the library may take a second."""
    routes: ClassVar[bool] = False
    """Some of its items are for one downstream node alone: it may give `To`."""

    @property
    def takes(self) -> Kind:
        """The kinds of item that `process` accepts. A class attribute will do: `takes = Kind.BOTH`."""
        return Kind.AUDIO

    @property
    def gives(self) -> Kind:
        """The kinds of item that `process` and `finish` yield."""
        return Kind.AUDIO

    @property
    def delay(self) -> float:
        """By how many seconds the output lags the input; an upper bound until the format is known."""
        return 0.0

    @property
    def memory_bytes(self) -> int:
        """Bytes of state held between items."""
        return 0

    def connect(self, upstreams: Sequence[str]) -> None:
        """Be told once, before anything runs, which nodes feed this one, in the order of the connections.

        Raises:
          ValueError: the parameters do not fit these upstream nodes.
        """

    def connect_outputs(self, downstreams: Sequence[str]) -> None:
        """Be told once, before anything runs, which nodes this one leads to, in the order of the connections.

        Raises:
          ValueError: the parameters do not fit these downstream nodes.
        """

    def finish(self) -> Iterable[Item | To]:
        """Yield what is still held back, and become as fresh as a new node."""
        return ()

    def close(self) -> None:
        """Free what the node holds. Called exactly once, however the session ends."""

    def custom_metrics(self) -> Mapping[str, Any]:
        """Figures of this node's own, as a JSON object."""
        return {}

    def join(self, items: Sequence[Data]) -> Data:
        """Make one data item of several, at least one: one is itself, several become `{"items": [...]}`."""
        if len(items) == 1:
            return items[0]
        return Data({"items": [dict(item.value) for item in items]}, items[0].at, items[-1].until)


class Node(_Common):
    """A node that treats its items one by one; of several upstream nodes, in the order of the connections."""

    __slots__ = ()

    def process(self, item: Any) -> Iterable[Item | To]:
        """Take one item of a kind in `takes` and yield what comes of it.

        Raises:
          InvalidInput: the item is refused; the node's state has not changed.
        """
        raise NotImplementedError


class Join(_Common):
    """A node that sees the items of one row from all its upstream nodes together."""

    __slots__ = ()

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item | To]:
        """Take one row and yield what comes of it.

        Args:
          row: Upstream node id → its items of this row, perhaps none; every upstream node is there. A `Join`
            that is itself a source finds its chunk under the empty id.

        Raises:
          InvalidInput: the row is refused; the node's state has not changed.
        """
        raise NotImplementedError

    def ended(self, upstream: str) -> None:
        """Be told, before a row, that this upstream node has nothing more to process: waiting for it is in vain.

        What it holds back itself still comes with the row in which all nodes finish.
        """


AnyNode = Node | Join
