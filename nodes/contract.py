"""The contract of nodes: all that a node author needs, and all that the engine knows about nodes.

Rules of the contract:

- A node is an attrs class. Its parameters are its fields, declared with `parameter(...)`. Building a node is cheap and
  acquires no resource. Setting a field costs about 1 us, because attrs runs validators, so keep state that changes with
  every item in a separate object.
- `process` takes one item (in a `Join`, the items of one row) and yields the results, possibly none.
- `finish` yields the items that are still held back, and resets the node to its initial state. `close` is called
  exactly once, at the end.
- A node rejects an item by raising `InvalidInput`, *before* it changes its state. Any other exception is a failure and
  ends the session.
- Every downstream node gets every item of the kinds that it takes. A node with `routes = True` may wrap an item in
  `To`, which sends it to one downstream node only. A downstream node that gets no item in a row is skipped in that row.
- A node that computes with samples rejects NaN and infinity. A node that only moves samples passes them on.
- Everything is synchronous. A node that is slow or blocks sets `placement = "thread"`.
- Compute in float32 (`Audio.as_float32`), and yield audio in the sample format of the input (`Audio.derive`).

The items themselves are defined in `nodes.items`; this module exports them too.
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
    """An item for one downstream node only; a node must have `routes = True` to yield it.

    Attributes:
      target: Id of the downstream node.
      item: The item to send there.
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
    """Declare a parameter of a node: its default, its meaning and its bounds.

    The engine checks the declared type (`int`, `float`, `bool`, `str`, `list[...]`, `dict[str, ...]`, `... | None`)
    when it reads parameters from a manifest. The bounds are checked whenever a node is built, except for None.

    Args:
      default: Default value; without one the parameter is required. A list or dict is copied for each node.
      help: Meaning in one line, with the unit.
      at_least: Smallest allowed number.
      at_most: Greatest allowed number.
      above: Bound that the number must exceed.
      choices: Allowed values.
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
    """Members that `Node` and `Join` share."""

    __slots__ = ()

    placement: ClassVar[Literal["inline", "thread"]] = "inline"
    extra: ClassVar[str] = ""
    """Optional extra that installs a library the class needs, or "". Without the library, building a node fails. The
    first node of the class is built in a thread, because loading the library may take a second."""
    routes: ClassVar[bool] = False
    """True if the node may yield `To`, an item for one downstream node only."""

    @property
    def takes(self) -> Kind:
        """Kinds of item that `process` accepts. A class attribute is enough: `takes = Kind.BOTH`."""
        return Kind.AUDIO

    @property
    def gives(self) -> Kind:
        """Kinds of item that `process` and `finish` yield."""
        return Kind.AUDIO

    @property
    def delay(self) -> float:
        """Lag of the output behind the input, in seconds; an upper bound until the format is known."""
        return 0.0

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of state held between items."""
        return 0

    def connect(self, upstreams: Sequence[str]) -> None:
        """Take the ids of the upstream nodes, in the order of the connections; called once, before anything runs.

        Raises:
          ValueError: the parameters do not fit these upstream nodes.
        """

    def connect_outputs(self, downstreams: Sequence[str]) -> None:
        """Take the ids of the downstream nodes, in the order of the connections; called once, before anything runs.

        Raises:
          ValueError: the parameters do not fit these downstream nodes.
        """

    def finish(self) -> Iterable[Item | To]:
        """Yield the items that are still held back, and reset the node to its initial state."""
        return ()

    def close(self) -> None:
        """Free the resources of the node. Called exactly once, however the session ends."""

    def custom_metrics(self) -> Mapping[str, Any]:
        """Return further figures about this node, as a JSON object."""
        return {}

    def join(self, items: Sequence[Data]) -> Data:
        """Join one or more data items into one: a single item stays as it is, several become `{"items": [...]}`."""
        if len(items) == 1:
            return items[0]
        return Data({"items": [dict(item.value) for item in items]}, items[0].at, items[-1].until)


class Node(_Common):
    """A node that processes items one by one. Items of several upstream nodes come in the order of the connections."""

    __slots__ = ()

    def process(self, item: Any) -> Iterable[Item | To]:
        """Process one item, of a kind in `takes`, and yield the results.

        Raises:
          InvalidInput: the node rejects the item, and its state has not changed.
        """
        raise NotImplementedError


class Join(_Common):
    """A node that processes the items of all its upstream nodes together, row by row."""

    __slots__ = ()

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item | To]:
        """Process one row and yield the results.

        Args:
          row: Id of each upstream node → its items in this row, possibly none. A `Join` that is itself a source finds
            its chunk under the empty id.

        Raises:
          InvalidInput: the node rejects the row, and its state has not changed.
        """
        raise NotImplementedError

    def ended(self, upstream: str) -> None:
        """Stop waiting for an upstream node that gets no more input; called once for each, before a row.

        Items that the upstream node still holds back come in the row in which all nodes finish.
        """


AnyNode = Node | Join
