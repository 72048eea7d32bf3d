"""gRPC's length-prefixed messages: cutting a stream of bytes into them, compressing and inflating.

Rules kept here:
- A message is refused by its announced length, before its bytes are kept. It is kept as it came, and inflated by who
  takes it: in slices, and only up to the limit.
- A message that compressing does not make smaller goes as it is; the flag says so for each.
- Nothing is copied twice; one frame that is one message (the usual case for audio) is cut once.
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

_PREFIX = Struct(">BI")  # whether it is compressed, length
PREFIX_BYTES = _PREFIX.size

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
ENCODINGS = frozenset(_WINDOW_BITS)
_LEVEL = 6
_SLICE_BYTES = 128 * 1024
_GLANCE_BYTES = 256

Part = tuple[bytes, int, str | None]
"""A message, its size as it was sent with its prefix, and what it is compressed with."""


class FramingError(Exception):
    """The bytes of a stream are not messages that can be taken."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def prefix(length: int, *, compressed: bool = False) -> bytes:
    """The five bytes before a message."""
    return _PREFIX.pack(compressed, length)


def pack(message: bytes, encoding: str) -> tuple[bytes, bytes]:
    """Compress a message, if it gets smaller; give its prefix and what follows.

    Args:
      message: Anything.
      encoding: One of `ENCODINGS`.
    """
    deflater = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[encoding])
    content = deflater.compress(message) + deflater.flush()
    if len(content) >= len(message):
        return prefix(len(message)), message
    return prefix(len(content), compressed=True), content


class MessageReader:
    """One direction of one call.

    Args:
      encoding: What a set compressed flag means; None when the peer named nothing.

    Attributes:
      partial_bytes: Bytes kept of a message that is not whole yet, prefix included.
      needed_bytes: The size of that message, prefix included, as far as it is known.
    """

    __slots__ = ("_buffer", "_encoding", "_max_bytes", "needed_bytes", "partial_bytes")

    def __init__(self, max_message_bytes: int, encoding: str | None) -> None:
        self._buffer = bytearray()
        self.partial_bytes = 0
        self.needed_bytes = PREFIX_BYTES
        self._max_bytes = max_message_bytes
        self._encoding = encoding

    def feed(self, data: bytes) -> list[Part]:
        """Take bytes; give the messages they complete.

        Raises:
          FramingError: too large, badly compressed, or not a message at all.
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
        """Cut whole messages off the buffer; `needed_bytes` then says from where another look pays."""
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
            raise _too_large(self._max_bytes, f"{length} bytes")
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
    """Inflate a message slice by slice, so that others can have their turn in between.

    Args:
      data: It.
      encoding: One of `ENCODINGS`.
      max_bytes: Of all slices together.
    Raises:
      FramingError: it is more than that, or damaged.
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
                raise _too_large(max_bytes, "more, inflated,")
            yield part
    if not inflater.eof:
        raise FramingError(StatusCode.INTERNAL, "a compressed message is cut short")
    if inflater.unused_data:
        raise FramingError(StatusCode.INTERNAL, "a compressed message goes on after its end")


def beginning(data: bytes, encoding: str) -> bytes:
    """The first bytes of a compressed message, all of it if it is small; nothing of one that is damaged."""
    try:
        return zlib.decompressobj(_WINDOW_BITS[encoding]).decompress(data[:_GLANCE_BYTES], _GLANCE_BYTES)
    except zlib.error:
        return b""


def _too_large(max_bytes: int, announced: str) -> FramingError:
    return FramingError(
        StatusCode.RESOURCE_EXHAUSTED, f"a message of {announced} is over the limit of {max_bytes} bytes"
    )
