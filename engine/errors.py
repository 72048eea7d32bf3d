"""What can go wrong, one class per mistake, each carrying its facts.

The classes say what happened; their `category` says what a client may do about it. `transport.codec.errors` has the one
table that turns a category into what the wire says.
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
      message: For a person; says what was wrong, where, and what would be right.
      node_id: The node concerned, or "".
      sequence: The chunk concerned, or None.
      context: Facts for a program; a JSON object.
      stack_trace: Of a failed node or a bug; shown to clients only where the operator allows it.
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
        """The context as JSON text, "" when there is none; what JSON cannot hold is shown by its repr."""
        return json.dumps(self.context, default=repr) if self.context else ""


class Fault:
    """One fault of a manifest: where (`nodes[2].params.gain_db`) and what."""

    __slots__ = ("message", "path")

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"

    __repr__ = __str__


class ManifestInvalid(EngineError):
    """The manifest has faults; all of them are here."""

    category = Category.VALIDATION

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        head = "the manifest has a fault" if len(faults) == 1 else f"the manifest has {len(faults)} faults"
        super().__init__(
            f"{head}:\n" + "\n".join(f"  {fault}" for fault in faults),
            context={"faults": [{"path": fault.path, "message": fault.message} for fault in faults]},
        )


class ProtocolMisuse(EngineError):
    """A message that has no meaning at this point: no manifest first, a second one, an empty request."""

    category = Category.VALIDATION


class VersionNotSupported(EngineError):
    """The client speaks a protocol version that this service does not."""

    category = Category.VERSION_MISMATCH


class SessionClosed(EngineError):
    """A chunk or command was offered to a session that takes no more."""

    category = Category.VALIDATION


class ChunkRefused(EngineError):
    """A chunk is not taken: the answer names the fact, and the session goes on."""

    category = Category.VALIDATION


class UnknownSource(ChunkRefused):
    """The chunk addresses a node that is not there, or is not a source."""


class DuplicateChunk(ChunkRefused):
    """This source gave a chunk of this number before."""


class LateChunk(ChunkRefused):
    """The row of this number has gone already."""


class SequenceJump(ChunkRefused):
    """The number is further ahead than a jump may be."""


class SourceTooFarAhead(ChunkRefused):
    """Data chunks have taken all the room that waits for audio."""


class SamplesLimitExceeded(ChunkRefused):
    """The chunk has more samples than the session's limit."""

    category = Category.RESOURCE_LIMIT


class MemoryLimitExceeded(ChunkRefused):
    """The chunk, or what a node made of it, does not fit the session's memory limit."""

    category = Category.RESOURCE_LIMIT


class NodeRefused(EngineError):
    """A node refused a chunk; other branches kept theirs and the session goes on."""

    category = Category.NODE_EXECUTION


class NodeFailed(EngineError):
    """A node raised something other than `InvalidInput`, or broke its contract."""

    category = Category.NODE_EXECUTION


class TimeLimitExceeded(EngineError):
    """A row, or a one-shot call, took longer than the session's limit."""

    category = Category.TIME_LIMIT


class AtCapacity(EngineError):
    """The service takes no more of this now."""

    category = Category.AT_CAPACITY


class InternalFault(EngineError):
    """A bug in the service."""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in a group, and in the groups within it."""
    found: list[BaseException] = []
    for each in group.exceptions:
        found.extend(leaves(each) if isinstance(each, BaseExceptionGroup) else [each])
    return found
