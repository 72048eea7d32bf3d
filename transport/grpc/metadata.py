"""Values of header fields: metadata, status messages and timeouts, encoded as gRPC's HTTP/2 mapping says.

Rules kept here:
- A value that is sent cannot break a header: names are checked, text is printable ASCII, everything else is encoded.
- A received value is bounded by the size of its header block, and either decodes or raises `BadHeader`.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import urllib.parse
from collections.abc import Iterable

from transport.grpc.status import Metadata

__all__ = [
    "BadHeader",
    "cut_message",
    "decode_message",
    "decode_metadata",
    "decode_timeout",
    "encode_binary",
    "encode_message",
    "encode_metadata",
    "encode_timeout",
]

MAX_STATUS_MESSAGE_BYTES = 512  # up to three times that, percent-encoded; clients accept header blocks of 8 to 16 KiB

_NAME = re.compile(r"[0-9a-z_.\-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")
_PUSHBACK = "grpc-retry-pushback-ms"  # the one reserved name that services send and clients read
_RESERVED = frozenset({"te", "content-type", "user-agent", "host", "connection", "keep-alive", "upgrade"})
_UNQUOTED = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) != "%")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class BadHeader(ValueError):
    """A header field that cannot be sent or understood."""


def encode_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[str, str]]:
    """Check custom metadata and write it as header fields.

    Raises:
      BadHeader: a name that is reserved or malformed, bytes without `-bin`, or text that is not printable
        ASCII (a line break would start another header).
    """
    return [(name, _encode_value(name, value)) for name, value in metadata]


def _encode_value(name: str, value: str | bytes) -> str:
    if not _NAME.fullmatch(name) or _is_grpcs_own(name) or name in _RESERVED:
        raise BadHeader(f"metadata may not be named {name!r}")
    if name.endswith("-bin"):
        return encode_binary(value.encode() if isinstance(value, str) else value)
    if isinstance(value, bytes):
        raise BadHeader(f"metadata {name!r} is bytes, so its name must end in '-bin'")
    if not _TEXT.fullmatch(value):
        raise BadHeader(f"metadata {name!r} holds characters other than printable ASCII")
    return value


def _is_grpcs_own(name: str) -> bool:
    return name.startswith("grpc-") and name != _PUSHBACK


def encode_binary(value: bytes) -> str:
    """Write a `-bin` value, without base64 padding as gRPC recommends."""
    return base64.b64encode(value).rstrip(b"=").decode("ascii")


def decode_metadata(headers: Iterable[tuple[str, str]]) -> Metadata:
    """Read custom metadata without gRPC's own fields; each part of a comma-joined `-bin` value becomes a pair."""
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if _is_grpcs_own(name):
            continue
        if name.endswith("-bin"):
            pairs.extend((name, decode_binary(name, part)) for part in value.split(","))
        else:
            pairs.append((name, value))
    return tuple(pairs)


def decode_binary(name: str, value: str) -> bytes:
    """Read a `-bin` value, padded or not; raises BadHeader with the field's name."""
    value = value.strip()
    try:
        return base64.b64decode(value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadHeader(f"{name} is not base64") from None


def cut_message(message: str) -> str:
    """Cut a status message to a length that fits every client's header limit."""
    return message.encode(errors="replace")[:MAX_STATUS_MESSAGE_BYTES].decode(errors="ignore")


def encode_message(message: str) -> str:
    """Cut a status message and percent-encode it."""
    message = cut_message(message)
    inner_spaces = message == message.strip(" ")  # HTTP/2 strips the outer ones
    return urllib.parse.quote(message, safe=_UNQUOTED + " " * inner_spaces)


def decode_message(value: str) -> str:
    """Read a status message; badly encoded parts are replaced and never raise."""
    return urllib.parse.unquote(value, errors="replace")


def encode_timeout(seconds: float) -> str:
    """Write a timeout in the finest unit whose eight digits hold it, rounded up, at least one."""
    for unit in "numSMH":
        value = math.ceil(max(seconds, 0.0) / _UNIT_S[unit])
        if value < 100_000_000:
            return f"{max(value, 1)}{unit}"
    return "99999999H"


def decode_timeout(value: str) -> float:
    """Read a timeout in seconds; raises BadHeader."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise BadHeader(f"grpc-timeout is {value[:20]!r}, not up to eight digits and one of H M S m u n")
    return int(match[1]) * _UNIT_S[match[2]]
