"""Errors of the engine: one class per mistake, each carrying its facts.

A class says what happened; its `category` says what a client may do about it. `transport.codec.errors` has the one
table that maps a category to a wire error.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "AtCapacity",
    "Category",
    "ChunkRefused",
    "DuplicateChunk",
    "EngineError",
    "Fault",
    "InternalFault",
    "LateChunk",
    "ManifestInvalid",
    "MemoryLimitExceeded",
    "NodeFailed",
    "NodeRefused",
    "ProtocolMisuse",
    "SamplesLimitExceeded",
    "SequenceJump",
    "SessionClosed",
    "SourceTooFarAhead",
    "TimeLimitExceeded",
    "UnknownSource",
    "VersionNotSupported",
    "leaves",
]


class Category(enum.Enum):
    """The kinds of error that a client treats differently."""

    VALIDATION = "validation"
    NODE_EXECUTION = "node execution"
    RESOURCE_LIMIT = "resource limit"
    TIME_LIMIT = "time limit"
    VERSION_MISMATCH = "version mismatch"
    AUTHENTICATION = "authentication"
    AT_CAPACITY = "at capacity"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class EngineError(Exception):
    """Base of everything the engine reports to a client.

    Attributes:
      message: Text for a person: the mistake, its place, and what would be right.
      node_id: Id of the node concerned, or "".
      sequence: Sequence number of the chunk concerned, or None.
      context: Facts for a program, as a JSON object.
      stack_trace: Traceback of a failed node or of a bug; shown to clients only if the operator allows it.
    """

    category: ClassVar[Category] = Category.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        node_id: str = "",
        sequence: int | None = None,
        context: Mapping[str, Any] | None = None,
        stack_trace: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node_id = node_id
        self.sequence = sequence
        self.context: dict[str, Any] = dict(context or {})
        self.stack_trace = stack_trace

    def context_json(self) -> str:
        """Return the context as JSON text, "" if it is empty; a value that JSON cannot express becomes its repr."""
        return json.dumps(self.context, default=repr) if self.context else ""


class Fault:
    """One fault of a manifest: its path, such as `nodes[2].params.gain_db`, and a message."""

    __slots__ = ("message", "path")

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"

    __repr__ = __str__


class ManifestInvalid(EngineError):
    """The manifest has faults; `faults` lists all of them."""

    category = Category.VALIDATION

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        head = "the manifest has a fault" if len(faults) == 1 else f"the manifest has {len(faults)} faults"
        super().__init__(
            f"{head}:\n" + "\n".join(f"  {fault}" for fault in faults),
            context={"faults": [{"path": fault.path, "message": fault.message} for fault in faults]},
        )


class ProtocolMisuse(EngineError):
    """A message came that is not allowed at this point: no manifest first, a second manifest, or an empty request."""

    category = Category.VALIDATION


class VersionNotSupported(EngineError):
    """The client speaks a protocol version that this service does not."""

    category = Category.VERSION_MISMATCH


class SessionClosed(EngineError):
    """A chunk or command was offered to a session that accepts no more."""

    category = Category.VALIDATION


class ChunkRefused(EngineError):
    """The chunk was not taken into the session: the answer says why, and the session continues."""

    category = Category.VALIDATION


class UnknownSource(ChunkRefused):
    """The chunk addresses a node that does not exist or is not a source."""


class DuplicateChunk(ChunkRefused):
    """The source has already sent a chunk of this number, or of a higher one where its numbers must rise."""


class LateChunk(ChunkRefused):
    """The row of this number has already entered the graph, or was given up."""


class SequenceJump(ChunkRefused):
    """The sequence number is further ahead of the expected one than a jump may be."""


class SourceTooFarAhead(ChunkRefused):
    """Data chunks that wait for audio hold all credits except the one kept for audio."""


class SamplesLimitExceeded(ChunkRefused):
    """The chunk has more samples than the session's limit."""

    category = Category.RESOURCE_LIMIT


class MemoryLimitExceeded(ChunkRefused):
    """The chunk, or the output that a node made of it, does not fit into the session's memory limit."""

    category = Category.RESOURCE_LIMIT


class NodeRefused(EngineError):
    """A node rejected a chunk; the other branches processed it, and the session continues."""

    category = Category.NODE_EXECUTION


class NodeFailed(EngineError):
    """A node raised something other than `InvalidInput`, or broke its contract."""

    category = Category.NODE_EXECUTION


class TimeLimitExceeded(EngineError):
    """A row, or a one-shot call, took longer than the session's limit."""

    category = Category.TIME_LIMIT


class AtCapacity(EngineError):
    """A limit on sessions, calls or connections has been reached; the same request may succeed later."""

    category = Category.AT_CAPACITY


class InternalFault(EngineError):
    """A bug in the service."""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions of a group and of all groups nested in it."""
    found: list[BaseException] = []
    for each in group.exceptions:
        found.extend(leaves(each) if isinstance(each, BaseExceptionGroup) else [each])
    return found
