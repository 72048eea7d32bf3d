"""Header blocks of a call: reading and writing those of a request, a response and its trailers.

Rules kept here:
- Pure functions over lists of fields; no stream, no connection.
- A block that breaks HTTP/2 raises `MalformedHeaders` (the stream is reset); one that breaks gRPC raises
  `RefusedHeaders` (the stream is answered). Neither ends the connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from transport.grpc.framing import ENCODINGS
from transport.grpc.metadata import (
    BadHeader,
    decode_binary,
    decode_message,
    decode_metadata,
    decode_timeout,
    encode_binary,
    encode_message,
    encode_metadata,
    encode_timeout,
)
from transport.grpc.status import Metadata, Status, StatusCode

__all__ = [
    "ACCEPTED_ENCODINGS",
    "BadHeaders",
    "MalformedHeaders",
    "RefusedHeaders",
    "RequestHeaders",
    "ResponseHeaders",
    "read_request",
    "read_response",
    "read_trailers",
    "request_fields",
    "response_fields",
    "trailer_fields",
]

ACCEPTED_ENCODINGS = "identity,gzip,deflate"

_FIELD_NAME = re.compile(r":?[a-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9113, 8.2.1
_REQUEST_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_CONNECTION_SPECIFIC = frozenset({"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"})
_NOT_METADATA = frozenset({"te", "content-type", "content-length", "host"})
_HTTP_CODES = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}

RawHeaders = Iterable[tuple[bytes, bytes]]
Fields = list[tuple[str, str]]


class BadHeaders(Exception):
    """A header block that cannot start or end a call; `status` says why."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = Status(code, message)


class MalformedHeaders(BadHeaders):
    """A header block that HTTP/2 forbids."""

    def __init__(self, message: str) -> None:
        super().__init__(StatusCode.INTERNAL, message)


class RefusedHeaders(BadHeaders):
    """A well-formed block that is not a valid gRPC call; `http_status` is the HTTP status to answer it with."""

    def __init__(self, code: StatusCode, message: str, http_status: int = 200) -> None:
        super().__init__(code, message)
        self.http_status = http_status


@frozen
class RequestHeaders:
    """Contents of a request's header block.

    Attributes:
      timeout_s: None without a deadline.
      encoding: Compression of the messages that are compressed; None without.
      accepted: Compressions that the client accepts, of those that we know.
    """

    path: str
    authority: str
    metadata: Metadata
    timeout_s: float | None
    encoding: str | None
    accepted: frozenset[str]


@frozen
class ResponseHeaders:
    """Contents of a response's first header block; `status` is set if the block also ends the response."""

    metadata: Metadata
    encoding: str | None
    status: Status | None


def read_request(headers: RawHeaders, max_bytes: int) -> RequestHeaders:
    """Check a client's header block.

    Raises:
      MalformedHeaders, RefusedHeaders.
    """
    pseudo, regular = _split(headers, _REQUEST_PSEUDO, max_bytes)
    if not {":method", ":scheme", ":path"} <= pseudo.keys():
        raise MalformedHeaders("a request needs :method, :scheme and :path")
    fields = dict(regular)
    _check_call(pseudo, fields)
    try:
        timeout = decode_timeout(fields["grpc-timeout"]) if "grpc-timeout" in fields else None
        metadata = decode_metadata(_custom(regular))
    except BadHeader as error:
        raise RefusedHeaders(StatusCode.INTERNAL, str(error)) from None
    authority = pseudo.get(":authority", fields.get("host", ""))
    return RequestHeaders(pseudo[":path"], authority, metadata, timeout, _encoding(fields), _accepted(fields))


def _check_call(pseudo: dict[str, str], fields: dict[str, str]) -> None:
    if pseudo[":method"] != "POST":
        raise RefusedHeaders(StatusCode.INTERNAL, f"the method is {pseudo[':method'][:20]}, not POST", 405)
    if not _is_grpc(fields.get("content-type", "")):
        raise RefusedHeaders(StatusCode.INTERNAL, "the content-type is not application/grpc", 415)
    if fields.get("te") != "trailers":
        raise RefusedHeaders(StatusCode.INTERNAL, "te: trailers is missing")
    if not pseudo[":path"].startswith("/"):
        raise RefusedHeaders(StatusCode.UNIMPLEMENTED, "the path is not /service/method")


def read_response(headers: RawHeaders, max_bytes: int) -> ResponseHeaders:
    """Check a server's first header block.

    Raises:
      MalformedHeaders: HTTP/2 forbids the block.
      RefusedHeaders: the block is not a gRPC response; an HTTP error's status is mapped to a gRPC code.
    """
    pseudo, regular = _split(headers, frozenset({":status"}), max_bytes)
    fields = dict(regular)
    if "grpc-status" in fields:
        return ResponseHeaders((), None, _read_status(regular))
    if pseudo.get(":status") != "200":
        http_status = pseudo.get(":status", "")
        code = _HTTP_CODES.get(int(http_status) if http_status.isdecimal() else 0, StatusCode.UNKNOWN)
        raise RefusedHeaders(code, f"the server answered with HTTP status {http_status[:10]!r}")
    if not _is_grpc(fields.get("content-type", "")):
        raise RefusedHeaders(StatusCode.UNKNOWN, "the response is not application/grpc")
    try:
        return ResponseHeaders(decode_metadata(_custom(regular)), _encoding(fields), None)
    except BadHeader as error:
        raise RefusedHeaders(StatusCode.INTERNAL, str(error)) from None


def read_trailers(headers: RawHeaders, max_bytes: int) -> Status:
    """Read trailers; without `grpc-status` they read as INTERNAL.

    Raises:
      MalformedHeaders, RefusedHeaders.
    """
    _, regular = _split(headers, frozenset(), max_bytes)
    return _read_status(regular)


def _read_status(regular: Fields) -> Status:
    fields = dict(regular)
    code = fields.get("grpc-status", "")
    if not code.isdecimal() or len(code) > 9:
        return Status(StatusCode.INTERNAL, "the response ended without a grpc-status")
    try:
        details = fields.get("grpc-status-details-bin", "")
        return Status(
            StatusCode(int(code)),
            decode_message(fields.get("grpc-message", "")),
            decode_binary("grpc-status-details-bin", details),
            decode_metadata(_custom(regular)),
        )
    except BadHeader as error:
        return Status(StatusCode.INTERNAL, str(error))


def request_fields(
    path: str, authority: str, scheme: str, metadata: Metadata, timeout_s: float | None, encoding: str | None = None
) -> Fields:
    """Write the header block that opens a call."""
    fields = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-accept-encoding", ACCEPTED_ENCODINGS),
        ("user-agent", "headrace"),
    ]
    if encoding is not None:
        fields.append(("grpc-encoding", encoding))
    if timeout_s is not None:
        fields.append(("grpc-timeout", encode_timeout(timeout_s)))
    return fields + encode_metadata(metadata)


def response_fields(metadata: Metadata = (), http_status: int = 200, encoding: str | None = None) -> Fields:
    """Write the header block that opens a response."""
    fields = [
        (":status", str(http_status)),
        ("content-type", "application/grpc"),
        ("grpc-accept-encoding", ACCEPTED_ENCODINGS),
    ]
    if encoding is not None:
        fields.append(("grpc-encoding", encoding))
    return fields + encode_metadata(metadata)


def trailer_fields(status: Status) -> Fields:
    """Write trailers; raises `BadHeader` if their metadata cannot be sent."""
    fields = [("grpc-status", str(int(status.code)))]
    if status.message:
        fields.append(("grpc-message", encode_message(status.message)))
    if status.details:
        fields.append(("grpc-status-details-bin", encode_binary(status.details)))
    return fields + encode_metadata(status.metadata)


def _split(headers: RawHeaders, pseudo_names: frozenset[str], max_bytes: int) -> tuple[dict[str, str], Fields]:
    """Decode a block and separate its pseudo-header fields from the rest (RFC 9113, 8.2 and 8.3)."""
    pseudo: dict[str, str] = {}
    regular: Fields = []
    size = 0
    for raw_name, raw_value in headers:
        size += len(raw_name) + len(raw_value) + 32
        name, value = _decode(raw_name, raw_value)
        if not name.startswith(":"):
            regular.append((name, value))
        elif name not in pseudo_names or name in pseudo or regular:
            raise MalformedHeaders(f"{name[:20]!r} is unknown, repeated or out of place")
        else:
            pseudo[name] = value
    if size > max_bytes:
        raise RefusedHeaders(StatusCode.RESOURCE_EXHAUSTED, f"{size} bytes of headers; the limit is {max_bytes}")
    return pseudo, regular


def _decode(raw_name: bytes, raw_value: bytes) -> tuple[str, str]:
    name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")  # never fails, loses nothing
    if not _FIELD_NAME.fullmatch(name) or name in _CONNECTION_SPECIFIC:
        raise MalformedHeaders(f"a header field may not be named {name[:20]!r}")
    if "\r" in value or "\n" in value or "\0" in value:
        raise MalformedHeaders(f"the value of {name[:20]!r} holds a line break")
    return name, value


def _is_grpc(content_type: str) -> bool:
    return content_type.startswith("application/grpc") and content_type[16:17] in ("", "+", ";")


def _custom(regular: Fields) -> Fields:
    return [pair for pair in regular if pair[0] not in _NOT_METADATA]


def _encoding(fields: dict[str, str]) -> str | None:
    encoding = fields.get("grpc-encoding", "identity")
    return None if encoding == "identity" else encoding


def _accepted(fields: dict[str, str]) -> frozenset[str]:
    named = fields.get("grpc-accept-encoding")
    return ENCODINGS.intersection(name.strip() for name in named.split(",")) if named else frozenset()
