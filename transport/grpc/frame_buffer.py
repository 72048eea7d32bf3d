"""Cuts received bytes into HTTP/2 frames, a bounded number at a time.

Rules kept here:
- The buffer replaces h2's own, which copies all remaining bytes for every frame, and checks a frame's length only once
  the frame is whole.
- The buffer never holds more than it was fed, cuts at most `quota` frames until the quota is set again, and refuses a
  header block as soon as it is too long.
- A peer pays for frames that carry nothing (`guard`).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

import h2.exceptions  # type: ignore[import-untyped]
import hyperframe.exceptions  # type: ignore[import-untyped]
import hyperframe.frame  # type: ignore[import-untyped]

from transport.grpc.rate_limits import FloodGuard

__all__ = ["FrameBuffer"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = Struct(">HBBBI")  # length in two parts, kind, flags, stream
_HEAD_BYTES = 9
_HEADERS, _PUSH_PROMISE, _CONTINUATION = 1, 5, 9
_END_HEADERS = 0x4
_MAX_CONTINUATIONS = 16


class FrameBuffer:
    """The frames of one connection, in order.

    Args:
      guard: Counts the frames that carry nothing.
      server: True if the peer must begin with the preface.
      max_block_bytes: Largest size of one header block, compressed as it is sent.

    Attributes:
      max_frame_size: Largest payload of one frame, as announced in our SETTINGS.
      quota: Number of frames that may still be cut.
      at: Current time.
      since: Arrival of the first bytes of an incomplete frame or header block; None without one.
    """

    def __init__(self, guard: FloodGuard, *, server: bool, max_block_bytes: int) -> None:
        self.max_frame_size = 2**14
        self.quota = 0
        self.at = 0.0
        self.since: float | None = None
        self._guard = guard
        self._preface = _PREFACE if server else b""
        self._max_block_bytes = max_block_bytes
        self._data = b""
        self._start = 0
        self._block: list[Any] = []
        self._block_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """Number of bytes fed and not yet cut, plus those of an incomplete header block."""
        return len(self._data) - self._start + self._block_bytes

    @property
    def has_whole_frame(self) -> bool:
        """True if a frame is whole or too large, so that handling continues."""
        if self._preface or len(self._data) - self._start < _HEAD_BYTES:
            return False
        length = self._length()
        return length > self.max_frame_size or len(self._data) - self._start >= _HEAD_BYTES + length

    def add_data(self, data: bytes) -> None:
        self._data = self._data[self._start :] + data if self._start < len(self._data) else data
        self._start = 0

    def _length(self) -> int:
        return int.from_bytes(self._data[self._start : self._start + 3], "big")

    def head(self) -> tuple[int, int, int, int]:
        """Return length, kind, flags and stream of the next frame; the length is -1 if none can be cut yet.

        Raises:
          ProtocolError: the preface is wrong, or the frame is too large.
        """
        data, start = self._data, self._start
        if self._preface:
            self._check_preface()
            data, start = self._data, self._start
        left = len(data) - start
        if left < _HEAD_BYTES:
            if left >= 3 and (length := self._length()) > self.max_frame_size:
                raise self._too_large(length)
            return self._incomplete(left > 0)
        upper, lower, kind, flags, stream_id = _HEAD.unpack_from(data, start)
        length = upper << 8 | lower
        if length > self.max_frame_size:
            raise self._too_large(length)
        if left < _HEAD_BYTES + length:
            return self._incomplete(True)
        if self.quota <= 0:
            return -1, 0, 0, 0
        return length, kind, flags, stream_id & 0x7FFFFFFF

    def _too_large(self, length: int) -> Exception:
        error = f"a frame of {length} bytes; the limit is {self.max_frame_size}"
        return h2.exceptions.FrameTooLargeError(error)  # type: ignore[no-any-return]

    def _check_preface(self) -> None:
        size = min(len(self._preface), len(self._data) - self._start)
        if self._data[self._start : self._start + size] != self._preface[:size]:
            raise h2.exceptions.ProtocolError("the peer does not speak HTTP/2")
        self._preface = self._preface[size:]
        self._start += size

    def _incomplete(self, any_bytes: bool) -> tuple[int, int, int, int]:
        if not any_bytes and not self._block:
            self.since = None
        elif self.since is None:
            self.since = self.at
        return -1, 0, 0, 0

    def cut(self, length: int) -> bytes:
        """Take the payload of the frame that `head` returned."""
        start = self._start + _HEAD_BYTES
        self._start = start + length
        self.quota -= 1
        if not self._block:
            self.since = None
        return self._data[start : self._start]

    def frame(self, length: int, kind: int, flags: int) -> Any:
        """Take that frame, parsed; None for a part of a header block that is not whole yet.

        Raises:
          ProtocolError: the frame is malformed or exceeds a limit.
        """
        if not self._guard.admits(kind, flags, length, self.at):
            raise h2.exceptions.DenialOfServiceError("too many frames that carry nothing")
        try:
            found, _ = hyperframe.frame.Frame.parse_frame_header(self._data[self._start : self._start + _HEAD_BYTES])
            found.parse_body(memoryview(self.cut(length)))
        except hyperframe.exceptions.InvalidPaddingError:
            raise h2.exceptions.ProtocolError("a frame's padding is longer than the frame") from None
        except hyperframe.exceptions.InvalidFrameError as error:
            raise h2.exceptions.FrameDataMissingError(f"a malformed frame: {error}") from None
        except ValueError as error:
            raise h2.exceptions.ProtocolError(f"a malformed frame: {error}") from None
        if self._block or kind in (_HEADERS, _PUSH_PROMISE):
            return self._joined(found, kind, flags)
        return found

    def _joined(self, part: Any, kind: int, flags: int) -> Any:
        """Assemble a header block; refuse it as soon as it is too long."""
        block = self._block
        if block and (kind != _CONTINUATION or part.stream_id != block[0].stream_id):
            raise h2.exceptions.ProtocolError("another frame inside a header block")
        block.append(part)
        self._block_bytes += len(part.data)
        if self._block_bytes > self._max_block_bytes or len(block) > _MAX_CONTINUATIONS + 1:
            raise h2.exceptions.DenialOfServiceError("a header block is too long")
        if not flags & _END_HEADERS:
            self.since = self.at if self.since is None else self.since
            return None
        whole = block[0]
        if len(block) > 1:
            whole.flags.add("END_HEADERS")
            whole.data = b"".join(part.data for part in block)
        self._block, self._block_bytes, self.since = [], 0, None
        return whole
