"""One error class for each status, so that a client's `except` says what it means.

    try:
        await client.get_version()
    except Unavailable:
        ...

Rules kept here:
- Each is an `RpcError` and keeps its `code`; what the table does not know is `UnknownError`.
- How long to wait before another attempt is asked of the error, in one place.
"""

from __future__ import annotations

from transport.grpc.status import Metadata, RpcError, Status, StatusCode

__all__ = [
    "ERRORS",
    "Aborted",
    "AlreadyExists",
    "CallCancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownError",
    "error_of",
    "pushback_ms",
    "rpc_error",
]

_MAX_PUSHBACK_MS = 24 * 3600 * 1000


class CallCancelled(RpcError):
    """The call was left here, or cancelled by the server."""


class UnknownError(RpcError):
    """A status that says nothing, or that this build does not know."""


class InvalidArgument(RpcError):
    """The request cannot be right, whatever state the server is in."""


class DeadlineExceeded(RpcError):
    """The deadline has passed; the server may or may not have done what it was asked for."""


class NotFound(RpcError):
    """What was asked for is not there."""


class AlreadyExists(RpcError):
    """What was to be made is there."""


class PermissionDenied(RpcError):
    """The server knows who asks, and refuses."""


class ResourceExhausted(RpcError):
    """A limit is reached; `pushback_ms` may tell when to come again."""


class FailedPrecondition(RpcError):
    """The server is not in the state that this needs, for example not of this version."""


class Aborted(RpcError):
    """The server gave up because of something that went on at the same time."""


class OutOfRange(RpcError):
    """Past the end of what there is."""


class Unimplemented(RpcError):
    """The server has no such method, or not for such messages."""


class InternalError(RpcError):
    """The server, or what it sent, is broken."""


class Unavailable(RpcError):
    """Nobody there, the connection is lost, or the server takes no calls now; worth another attempt."""


class DataLoss(RpcError):
    """A message was cut short."""


class Unauthenticated(RpcError):
    """The server wants a token, or does not know this one."""


ERRORS: dict[StatusCode, type[RpcError]] = {
    StatusCode.CANCELLED: CallCancelled,
    StatusCode.UNKNOWN: UnknownError,
    StatusCode.INVALID_ARGUMENT: InvalidArgument,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: AlreadyExists,
    StatusCode.PERMISSION_DENIED: PermissionDenied,
    StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    StatusCode.ABORTED: Aborted,
    StatusCode.OUT_OF_RANGE: OutOfRange,
    StatusCode.UNIMPLEMENTED: Unimplemented,
    StatusCode.INTERNAL: InternalError,
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DATA_LOSS: DataLoss,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
}


def rpc_error(code: StatusCode, message: str = "", *, metadata: Metadata = (), details: bytes = b"") -> RpcError:
    """The error of this code; never for OK."""
    return ERRORS[code](code, message, metadata=metadata, details=details)


def error_of(status: Status) -> RpcError:
    """What a call that ended so raises."""
    return ERRORS[status.code].of(status)


def pushback_ms(metadata: Metadata) -> int | None:
    """What the server says about another attempt (`grpc-retry-pushback-ms`).

    Returns:
      How long to wait at least; -1 for not at all; None when it says nothing. As gRPC has it, what is no number
      means not at all.
    """
    for name, value in metadata:
        if name == "grpc-retry-pushback-ms":
            text = value if isinstance(value, str) else ""
            number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
            return min(number, _MAX_PUSHBACK_MS)
    return None
