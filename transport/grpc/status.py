"""Status of an ended call: gRPC's codes, one frozen record, and the two errors that carry it.

Rules kept here:
- A handler raises `StatusError` to choose how its call ends. A client gets `RpcError` from a call that ended with an
  error. Both carry a `Status`.
- An unknown code reads as UNKNOWN and never raises.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from attrs import frozen

__all__ = ["Metadata", "RpcError", "Status", "StatusCode", "StatusError"]

Metadata = tuple[tuple[str, str | bytes], ...]
"""Pairs in order. The value is bytes if the name ends in `-bin`, otherwise printable ASCII text."""


class StatusCode(IntEnum):
    """The codes of gRPC's `statuscodes.md`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def _missing_(cls, value: object) -> StatusCode:
        return cls.UNKNOWN


@frozen
class Status:
    """The end of one call.

    Attributes:
      message: For people; any Unicode text.
      details: `grpc-status-details-bin`, an encoded message that the service chooses; empty without one.
      metadata: The other trailers.
    """

    code: StatusCode = StatusCode.OK
    message: str = ""
    details: bytes = b""
    metadata: Metadata = ()


class _EndedError(Exception):
    def __init__(self, code: StatusCode, message: str = "", *, metadata: Metadata = (), details: bytes = b"") -> None:
        super().__init__(code, message)
        self.status = Status(code, message, details, metadata)

    @classmethod
    def of(cls, status: Status) -> Self:
        return cls(status.code, status.message, metadata=status.metadata, details=status.details)

    @property
    def code(self) -> StatusCode:
        return self.status.code

    @property
    def message(self) -> str:
        return self.status.message

    @property
    def details(self) -> bytes:
        return self.status.details

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" if self.message else self.code.name


class StatusError(_EndedError):
    """Raised by a handler to end its call with this status."""


class RpcError(_EndedError):
    """Raised to a client whose call ended with this status or never reached the server."""
