"""One error class for each status code, so that a client can catch the errors it means.

    try:
        await client.get_version()
    except Unavailable:
        ...

Rules kept here:
- Each class is an `RpcError` and keeps its `code`.
- The wait that a server asks for before another attempt is read in one place, `pushback_ms`.
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
    """The caller left the call, or the server cancelled it."""


class UnknownError(RpcError):
    """The status gives no reason, or this build does not know its code."""


class InvalidArgument(RpcError):
    """The request is wrong, whatever state the server is in."""


class DeadlineExceeded(RpcError):
    """The deadline has passed; the server may or may not have carried out the request."""


class NotFound(RpcError):
    """The requested thing does not exist."""


class AlreadyExists(RpcError):
    """The thing to create exists already."""


class PermissionDenied(RpcError):
    """The server knows the caller and refuses the call."""


class ResourceExhausted(RpcError):
    """A limit is reached; `pushback_ms` may say when to try again."""


class FailedPrecondition(RpcError):
    """The server is not in the state that the call needs, for example it has another version."""


class Aborted(RpcError):
    """The server gave up because of a conflict with another operation."""


class OutOfRange(RpcError):
    """The request lies outside the valid range."""


class Unimplemented(RpcError):
    """The server has no such method, or the method does not support such messages."""


class InternalError(RpcError):
    """The server has a bug, or sent something invalid."""


class Unavailable(RpcError):
    """No server answers, the connection is lost, or the server takes no calls now; worth another attempt."""


class DataLoss(RpcError):
    """A message was cut short."""


class Unauthenticated(RpcError):
    """The call has no token, or the server does not know the token."""


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
    """Make the error of a code other than OK."""
    return ERRORS[code](code, message, metadata=metadata, details=details)


def error_of(status: Status) -> RpcError:
    """Make the error that a call with this status raises."""
    return ERRORS[status.code].of(status)


def pushback_ms(metadata: Metadata) -> int | None:
    """Return the wait that a server asks for before another attempt (`grpc-retry-pushback-ms`).

    Returns:
      The least wait in milliseconds; -1 for no further attempt; None if the server says nothing. As gRPC specifies, a
      value that is not a number means no further attempt.
    """
    for name, value in metadata:
        if name == "grpc-retry-pushback-ms":
            text = value if isinstance(value, str) else ""
            number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
            return min(number, _MAX_PUSHBACK_MS)
    return None
