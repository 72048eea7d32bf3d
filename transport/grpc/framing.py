"""gRPC's length-prefixed messages: cutting a byte stream into messages, compressing and inflating them.

Rules kept here:
- A message is refused by its announced length, before its bytes are kept. It is kept compressed, and inflated when it
  is taken: in slices, and only up to the limit.
- A message that does not get smaller by compression is sent uncompressed; each message's flag says which.
- Nothing is copied twice. A frame that is exactly one message (the usual case for audio) is copied once.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import Struct

from transport.grpc.status import StatusCode

__all__ = [
    "ENCODINGS",
    "PREFIX_BYTES",
    "FramingError",
    "MessageReader",
    "Part",
    "beginning",
    "inflating",
    "pack",
    "prefix",
]

_PREFIX = Struct(">BI")  # compressed flag, length
PREFIX_BYTES = _PREFIX.size

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
ENCODINGS = frozenset(_WINDOW_BITS)
_LEVEL = 6
_SLICE_BYTES = 128 * 1024
_GLANCE_BYTES = 256

Part = tuple[bytes, int, str | None]
"""A message, its size as sent with its prefix, and its compression (None without)."""


class FramingError(Exception):
    """The bytes of a stream are not valid messages, or exceed a limit; `code` is the status to end the call with."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def prefix(length: int, *, compressed: bool = False) -> bytes:
    """Return the five bytes before a message."""
    return _PREFIX.pack(compressed, length)


def pack(message: bytes, encoding: str) -> tuple[bytes, bytes]:
    """Compress a message if that makes it smaller; return its prefix and its content.

    Args:
      message: Any bytes.
      encoding: One of `ENCODINGS`.
    """
    deflater = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[encoding])
    content = deflater.compress(message) + deflater.flush()
    if len(content) >= len(message):
        return prefix(len(message)), message
    return prefix(len(content), compressed=True), content


class MessageReader:
    """Cuts the bytes of one direction of one call into messages.

    Args:
      max_message_bytes: Largest message, as sent.
      encoding: Compression that a set compressed flag means; None if the peer named none.

    Attributes:
      partial_bytes: Number of bytes kept of an incomplete message, prefix included.
      needed_bytes: Size of that message, prefix included, as far as it is known.
    """

    __slots__ = ("_buffer", "_encoding", "_max_bytes", "needed_bytes", "partial_bytes")

    def __init__(self, max_message_bytes: int, encoding: str | None) -> None:
        self._buffer = bytearray()
        self.partial_bytes = 0
        self.needed_bytes = PREFIX_BYTES
        self._max_bytes = max_message_bytes
        self._encoding = encoding

    def feed(self, data: bytes) -> list[Part]:
        """Take bytes; return the messages they complete.

        Raises:
          FramingError: a message is too large, its flag is invalid, or its compression is unknown.
        """
        if not self.partial_bytes and len(data) >= PREFIX_BYTES:
            size = PREFIX_BYTES + self._announced(data)
            if size == len(data):
                return [(data[PREFIX_BYTES:], size, self._encoding_of(data[0]) if data[0] else None)]
        self._buffer += data
        found = self._cut() if len(self._buffer) >= self.needed_bytes else []
        self.partial_bytes = len(self._buffer)
        return found

    def _cut(self) -> list[Part]:
        """Cut whole messages off the buffer; a buffer shorter than `needed_bytes` then holds none."""
        messages = []
        start, end = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while True:
                if end - start < PREFIX_BYTES:
                    self.needed_bytes = PREFIX_BYTES
                    break
                size = PREFIX_BYTES + self._announced(view[start : start + PREFIX_BYTES])
                if end - start < size:
                    self.needed_bytes = size
                    break
                content = bytes(view[start + PREFIX_BYTES : start + size])
                messages.append((content, size, self._encoding_of(view[start])))
                start += size
        del self._buffer[:start]
        return messages

    def _announced(self, data: bytes | memoryview) -> int:
        length: int = _PREFIX.unpack_from(data)[1]
        if length > self._max_bytes:
            raise _too_large(self._max_bytes, f"a message of {length} bytes")
        return length

    def _encoding_of(self, flag: int) -> str | None:
        if flag == 0:
            return None
        if flag != 1:
            raise FramingError(StatusCode.INTERNAL, f"a message's compressed flag is {flag}")
        if self._encoding is None:
            raise FramingError(StatusCode.INTERNAL, "a message is compressed but no grpc-encoding was named")
        if self._encoding not in _WINDOW_BITS:
            raise FramingError(StatusCode.UNIMPLEMENTED, f"grpc-encoding {self._encoding[:20]!r} is not supported")
        return self._encoding


def inflating(data: bytes, encoding: str, max_bytes: int) -> Iterator[bytes]:
    """Inflate a message slice by slice, so that other tasks can run in between.

    Args:
      data: The compressed message.
      encoding: One of `ENCODINGS`.
      max_bytes: Largest size of all slices together.
    Raises:
      FramingError: it is larger than that, or damaged.
    """
    inflater, size = zlib.decompressobj(_WINDOW_BITS[encoding]), 0
    for start in range(0, len(data), _SLICE_BYTES):
        rest, part = data[start : start + _SLICE_BYTES], b""
        while rest or len(part) == _SLICE_BYTES:
            try:
                part = inflater.decompress(rest, _SLICE_BYTES)
            except zlib.error as error:
                raise FramingError(StatusCode.INTERNAL, f"a compressed message is damaged: {error}") from None
            rest = inflater.unconsumed_tail
            size += len(part)
            if size > max_bytes:
                raise _too_large(max_bytes, "an inflated message")
            yield part
    if not inflater.eof:
        raise FramingError(StatusCode.INTERNAL, "a compressed message is cut short")
    if inflater.unused_data:
        raise FramingError(StatusCode.INTERNAL, "a compressed message continues after its end")


def beginning(data: bytes, encoding: str) -> bytes:
    """Return the first bytes of a compressed message, all of it if it is small, b"" if it is damaged."""
    try:
        return zlib.decompressobj(_WINDOW_BITS[encoding]).decompress(data[:_GLANCE_BYTES], _GLANCE_BYTES)
    except zlib.error:
        return b""


def _too_large(max_bytes: int, what: str) -> FramingError:
    return FramingError(StatusCode.RESOURCE_EXHAUSTED, f"{what} is over the limit of {max_bytes} bytes")
