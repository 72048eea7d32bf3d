"""The one table from the engine's error categories to wire errors (design §5), and its inverse for clients.

An error in band is an `ErrorResponse` with the category's error type. If the error ends the session, the stream also
ends with the category's status code. A unary call answers with an `ErrorResponse` and status OK, except for errors of
calls that were not admitted: those are reported by the status alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from engine.errors import Category, EngineError
from protos import common_pb2 as pb
from transport.codec.details import pack, unpack
from transport.grpc.metadata import cut_message
from transport.grpc.status import Metadata, Status, StatusCode

__all__ = [
    "RETRY_AFTER_MS",
    "TABLE",
    "Meaning",
    "RemoteError",
    "category_of",
    "decode_remote_error",
    "end_status",
    "error_response",
    "explained",
    "in_unary_status",
    "lenient_object",
]

RETRY_AFTER_MS = 1000
_RETRY: Metadata = (("grpc-retry-pushback-ms", str(RETRY_AFTER_MS)),)


@attrs.frozen
class Meaning:
    """Wire form of one error category.

    Attributes:
      error_type: Type in the `ErrorResponse`.
      code: Status code of the stream, if the error ends it.
      retryable: True if the same call may succeed later.
      as_status: True if unary calls too report the error by their status, with the `ErrorResponse` as its details.
    """

    error_type: pb.ErrorType.ValueType
    code: StatusCode
    retryable: bool = False
    as_status: bool = False


TABLE: dict[Category, Meaning] = {
    Category.VALIDATION: Meaning(pb.ERROR_TYPE_VALIDATION, StatusCode.INVALID_ARGUMENT),
    Category.NODE_EXECUTION: Meaning(pb.ERROR_TYPE_NODE_EXECUTION, StatusCode.INTERNAL),
    Category.RESOURCE_LIMIT: Meaning(pb.ERROR_TYPE_RESOURCE_LIMIT, StatusCode.RESOURCE_EXHAUSTED),
    Category.TIME_LIMIT: Meaning(pb.ERROR_TYPE_RESOURCE_LIMIT, StatusCode.DEADLINE_EXCEEDED),
    Category.VERSION_MISMATCH: Meaning(pb.ERROR_TYPE_VERSION_MISMATCH, StatusCode.FAILED_PRECONDITION),
    Category.AUTHENTICATION: Meaning(pb.ERROR_TYPE_AUTHENTICATION, StatusCode.UNAUTHENTICATED, as_status=True),
    Category.AT_CAPACITY: Meaning(
        pb.ERROR_TYPE_RESOURCE_LIMIT, StatusCode.RESOURCE_EXHAUSTED, retryable=True, as_status=True
    ),
    Category.UNAVAILABLE: Meaning(pb.ERROR_TYPE_INTERNAL, StatusCode.UNAVAILABLE, retryable=True, as_status=True),
    Category.INTERNAL: Meaning(pb.ERROR_TYPE_INTERNAL, StatusCode.INTERNAL),
}

_CATEGORIES: Mapping[int, Category] = {
    pb.ERROR_TYPE_VALIDATION: Category.VALIDATION,
    pb.ERROR_TYPE_NODE_EXECUTION: Category.NODE_EXECUTION,
    pb.ERROR_TYPE_RESOURCE_LIMIT: Category.RESOURCE_LIMIT,
    pb.ERROR_TYPE_AUTHENTICATION: Category.AUTHENTICATION,
    pb.ERROR_TYPE_VERSION_MISMATCH: Category.VERSION_MISMATCH,
}


_ENGINE_CODES = frozenset(meaning.code for meaning in TABLE.values())
_TYPES_BY_CODE = {  # for calls that fail without an engine error
    StatusCode.RESOURCE_EXHAUSTED: pb.ERROR_TYPE_RESOURCE_LIMIT,
    StatusCode.DEADLINE_EXCEEDED: pb.ERROR_TYPE_RESOURCE_LIMIT,
    StatusCode.UNAUTHENTICATED: pb.ERROR_TYPE_AUTHENTICATION,
    StatusCode.INVALID_ARGUMENT: pb.ERROR_TYPE_VALIDATION,
    StatusCode.NOT_FOUND: pb.ERROR_TYPE_VALIDATION,
    StatusCode.UNIMPLEMENTED: pb.ERROR_TYPE_VALIDATION,
}


def error_response(error: EngineError, *, debug: bool = False) -> pb.ErrorResponse:
    """Encode an error; with its stack trace only if `debug` allows that."""
    meaning = TABLE[error.category]
    return pb.ErrorResponse(
        error_type=meaning.error_type,
        message=error.message,
        failing_node_id=error.node_id,
        context=error.context_json(),
        stack_trace=error.stack_trace if debug else "",
        retryable=meaning.retryable,
        retry_after_ms=RETRY_AFTER_MS if meaning.retryable else 0,
    )


def end_status(error: EngineError, *, debug: bool = False) -> Status:
    """Return the status of a call that an error ends; its message is the first line of the error's."""
    meaning = TABLE[error.category]
    message = cut_message(error.message.partition("\n")[0])
    details = pack(meaning.code, message, error_response(error, debug=debug))
    return Status(meaning.code, message, details, _RETRY if meaning.retryable else ())


def explained(status: Status) -> Status:
    """Return the status with an `ErrorResponse` as details; unchanged if it is OK or has details already."""
    if status.code is StatusCode.OK or status.details:
        return status
    retryable = status.code is StatusCode.UNAVAILABLE
    response = pb.ErrorResponse(
        error_type=_TYPES_BY_CODE.get(status.code, pb.ERROR_TYPE_INTERNAL),
        message=status.message,
        retryable=retryable,
        retry_after_ms=RETRY_AFTER_MS if retryable else 0,
    )
    retry = _RETRY if retryable and not status.metadata else ()
    message = cut_message(status.message)
    return Status(status.code, message, pack(status.code, message, response), status.metadata + retry)


def in_unary_status(error: EngineError) -> bool:
    """Return True if a unary call reports this error by its status, not by an `ErrorResponse` with status OK."""
    return TABLE[error.category].as_status


def category_of(error_type: int) -> Category:
    """Return the category that a client derives from an error type; INTERNAL for an unknown type."""
    return _CATEGORIES.get(error_type, Category.INTERNAL)


# ---- read by clients


class RemoteError(EngineError):
    """An error that the server reported.

    Attributes:
      category: Kind of error; says what a client can do about it.
      code: Status code of the ended call; None for an error in band.
      retryable: True if the same call may succeed later.
      retry_after_ms: Least wait before that; 0 if the server gave none.
    """

    category: Category  # type: ignore[misc]

    def __init__(
        self,
        wire: pb.ErrorResponse,
        sequence: int | None = None,
        code: StatusCode | None = None,
        pushback_ms: int | None = None,
    ) -> None:
        super().__init__(wire.message, node_id=wire.failing_node_id, sequence=sequence, stack_trace=wire.stack_trace)
        self.category = category_of(wire.error_type)
        self.code = code
        self.retryable = wire.retryable if pushback_ms is None else pushback_ms >= 0
        self.retry_after_ms = max(wire.retry_after_ms, pushback_ms or 0)
        if wire.context:
            self.context = lenient_object(wire.context)


def lenient_object(text: str) -> dict[str, object]:
    """Read a JSON object from the server for display; any other text is kept under the key "text" or "value"."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def decode_remote_error(details: bytes, code: StatusCode, pushback_ms: int | None = None) -> RemoteError | None:
    """Return the service's error from a status's details; None if there is none.

    A server attaches details to every failure. Codes that no engine error has, such as UNIMPLEMENTED, are failures of
    the transport: they yield None, and stay an `RpcError`.
    """
    wire = unpack(details, code) if code in _ENGINE_CODES else None
    return None if wire is None else RemoteError(wire, code=code, pushback_ms=pushback_ms)
