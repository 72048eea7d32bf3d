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

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import attrs
import numpy as np
from numpy.typing import NDArray

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

MAX_CHANNELS = 128
MAX_SAMPLE_RATE = 768_000

Samples = NDArray[Any]
Float32 = NDArray[np.float32]
SampleFormat = Literal["f32", "i16", "i32"]

_FLOAT32, _INT16, _INT32 = np.dtype(np.float32), np.dtype(np.int16), np.dtype(np.int32)
_FORMATS: Mapping[Any, SampleFormat] = {_FLOAT32: "f32", _INT16: "i16", _INT32: "i32"}

# Constants are arrays of no dimension: a ufunc takes them quicker than scalars, which it has to convert each time.
_I16_STEP, _I32_STEP = np.array(2.0**-15, np.float32), np.array(2.0**-31, np.float32)
_I16_SCALE, _I32_SCALE = np.array(2.0**15, np.float32), np.array(2.0**31, np.float64)
_I16_RANGE = np.array(-(2.0**15), np.float32), np.array(2.0**15 - 1, np.float32)
_I32_RANGE = np.array(-(2.0**31), np.float64), np.array(2.0**31 - 1, np.float64)

FULL_SCALE: Mapping[SampleFormat, float] = {"f32": 1.0, "i16": 2.0**15, "i32": 2.0**31}
"""The number that an amplitude of 1.0 is in each format."""


class Kind(enum.Flag):
    """What travels on an edge."""

    AUDIO = enum.auto()
    DATA = enum.auto()
    BOTH = AUDIO | DATA

    def __str__(self) -> str:
        return " and ".join(kind.name.lower() for kind in (Kind.AUDIO, Kind.DATA) if kind in self and kind.name)


class InvalidInput(Exception):
    """A node refuses an item: this row gets an error, the session goes on.

    Raise it before the node's state has changed.
    """


def to_float32(frames: Samples) -> Float32:
    """Scale samples to float32 in [-1, 1): i16 by 2^15, i32 by 2^31 (24 significant bits are kept).

    Args:
      frames: Float32, int16 or int32, any shape. float32 is returned as it is, without a copy.
    """
    if frames.dtype == _FLOAT32:
        same: Float32 = frames
        return same
    scaled: Float32 = frames.astype(np.float32)
    scaled *= _I16_STEP if frames.dtype == _INT16 else _I32_STEP
    return scaled


def from_float32(frames: Float32, sample_format: SampleFormat) -> Samples:
    """Scale float32 samples to a format, rounding to nearest and clipping at full scale, not wrapping."""
    if sample_format == "f32":
        return np.asarray(frames, dtype=np.float32)
    return rounded(frames * (_I16_SCALE if sample_format == "i16" else _I32_SCALE), sample_format)


def rounded(frames: Samples, sample_format: SampleFormat) -> Samples:
    """Round samples that have an integer format's own scale to it: to nearest, clipping at full scale."""
    (lowest, highest), dtype = (_I16_RANGE, _INT16) if sample_format == "i16" else (_I32_RANGE, _INT32)
    given = np.rint(frames.astype(lowest.dtype, copy=False))
    np.minimum(given, highest, out=given)  # a third quicker than clip()
    np.maximum(given, lowest, out=given)
    integers: Samples = given.astype(dtype)
    return integers


def _read_only(frames: Any) -> Samples:
    array: Samples = frames if type(frames) is np.ndarray else np.asarray(frames)
    if array.flags.writeable:
        array = array.view()
        array.setflags(write=False)
    return array


@attrs.define(eq=False, repr=False, init=False)
class _Fields:
    """An `Audio` while it can be set: to freeze it at the end, by its class, is quicker than to set what is frozen."""

    frames: Samples
    sample_rate: int
    start: int
    channels: int = attrs.field(init=False)
    sample_format: SampleFormat = attrs.field(init=False)
    _float32: Float32 | None = attrs.field(init=False)


@attrs.frozen(eq=False, repr=False, init=False)
class Audio(_Fields):
    """A block of audio at a position of its stream.

    Attributes:
      frames: Shape (n, channels), float32 nominally in [-1, 1], int16 or int32; read-only. n may be 0.
      sample_rate: In Hz.
      start: Position of the first frame, in frames at this block's own rate, since the session began.
      channels: How many, 1 to 128.
      sample_format: Which of "f32", "i16" and "i32" the frames are.

    Raises:
      ValueError: the shape, dtype, channel count (1 to 128) or sample rate is not one of these.
    """

    def __new__(cls, frames: Any, sample_rate: int, start: int = 0) -> Audio:
        array = _read_only(frames)
        shape, dtype = array.shape, array.dtype
        if len(shape) != 2 or not 1 <= shape[1] <= MAX_CHANNELS:
            raise ValueError(f"frames must have shape (n, 1..{MAX_CHANNELS}), got {shape}")
        sample_format = "i16" if dtype is _INT16 else _FORMATS.get(dtype)  # quicker than to hash the usual one
        if sample_format is None:
            raise ValueError(f"samples must be float32, int16 or int32, got {dtype}")
        if not 0 < sample_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"sample rate must be 1 to {MAX_SAMPLE_RATE} Hz, got {sample_rate}")
        return unchecked_audio(array, sample_rate, start, shape[1], sample_format)

    def __reduce__(self) -> tuple[Any, ...]:
        return Audio, (self.frames, self.sample_rate, self.start)

    def __repr__(self) -> str:
        return (
            f"<Audio {len(self.frames)}x{self.channels} {self.sample_format}"
            f" {self.sample_rate} Hz from frame {self.start}>"
        )

    @property
    def stop(self) -> int:
        """Position just after the last frame, in frames."""
        return self.start + len(self.frames)

    @property
    def samples(self) -> int:
        """Number of samples over all channels."""
        return int(self.frames.size)

    def as_float32(self) -> Float32:
        """The samples as read-only float32, shape (n_frames, channels); converted once, shared by all."""
        if self._float32 is None:
            converted = to_float32(self.frames)
            converted.setflags(write=False)
            object.__setattr__(self, "_float32", converted)
            return converted
        return self._float32

    def derive(self, frames: Float32, *, sample_rate: int | None = None, start: int | None = None) -> Audio:
        """New audio in this block's sample format: what a node gives back.

        Args:
          frames: Float32, shape (n, channels); values beyond full scale are clipped in integer formats.
          sample_rate: In Hz; this block's if not given.
          start: In frames at that rate; this block's if not given.
        """
        return Audio(
            from_float32(frames, self.sample_format),
            self.sample_rate if sample_rate is None else sample_rate,
            self.start if start is None else start,
        )

    def placed(self, start: int) -> Audio:
        """The same samples (shared, not copied) at another position."""
        return unchecked_audio(self.frames, self.sample_rate, start, self.channels, self.sample_format, self._float32)


def unchecked_audio(
    frames: Samples,
    sample_rate: int,
    start: int,
    channels: int,
    sample_format: SampleFormat,
    converted: Float32 | None = None,
) -> Audio:
    """Audio of what is known to be right: frames that are read-only, and of this format and number of channels.

    `converted` is what `as_float32` gives, if it is there already.
    """
    block = _Fields()
    block.frames = frames
    block.sample_rate = sample_rate
    block.start = start
    block.channels = channels
    block.sample_format = sample_format
    block._float32 = converted
    block.__class__ = Audio
    return cast(Audio, block)


@attrs.frozen
class Data:
    """A JSON object, for a moment or a stretch of the stream.

    Attributes:
      value: What `json.dumps` takes: str keys; no NaN or Infinity.
      at: Where it begins, in seconds since the session began; None if it belongs to no moment.
      until: Where it ends, in seconds.
    """

    value: Mapping[str, Any]
    at: float | None = None
    until: float | None = None


Item = Audio | Data


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
