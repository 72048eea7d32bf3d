"""Delay: the same audio, later in the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import attrs
import numpy as np

from nodes.bases.alignment import cut_before
from nodes.contract import Audio, InvalidInput, Node, parameter
from nodes.dsp.blocks import StreamFormat, require_format

__all__ = ["Delay"]


@attrs.define
class _Line:
    """A delay line in use. Its blocks wait for output, and already have their output positions."""

    format: StreamFormat
    sample_format: str
    frames: int
    stop: int
    blocks: deque[Audio] = attrs.field(factory=deque)


@attrs.define
class Delay(Node):
    """Move the audio to `delay_ms` later in the stream, bit for bit, for echoes or to line up branches.

    The output at a position is the input from `delay_ms` before it; at the beginning there is silence. Each block emits
    the frames that are due up to its end, and the rest comes at the end of the stream. A gap stays a gap, `delay_ms`
    later. This is an effect, not latency: no frame comes later than its position.
    """

    delay_ms: float = parameter(help="delay in ms, rounded to a whole frame", at_least=0, at_most=60_000)
    _line: _Line | None = attrs.field(init=False, default=None, repr=False)

    def process(self, item: Audio) -> Iterable[Audio]:
        """Take one block of shape (n, channels), and emit the frames that are due up to its end.

        Raises:
          InvalidInput: the sample rate, channel count or sample format is not the stream's, or the block begins before
            the end of the previous one.
        """
        if self._line is not None:
            self._require(item, self._line)
        if not len(item.frames):
            return ()
        line = self._line = self._line or self._begin(item)
        line.stop = item.stop
        line.blocks.append(item.placed(item.start + line.frames))
        return cut_before(line.blocks, item.stop)

    def _require(self, item: Audio, line: _Line) -> None:
        require_format(item, line.format)
        if item.sample_format != line.sample_format:
            raise InvalidInput(f"the stream is {line.sample_format}, this block is {item.sample_format}")
        if item.start < line.stop:
            raise InvalidInput(f"the block starts at frame {item.start}, the stream is at frame {line.stop}")

    def _begin(self, first: Audio) -> _Line:
        frames = round(self.delay_ms * first.sample_rate / 1000)
        line = _Line((first.sample_rate, first.channels), first.sample_format, frames, first.start)
        silence = np.zeros((frames, first.channels), first.frames.dtype)
        line.blocks.append(Audio(silence, first.sample_rate, first.start))
        return line

    def finish(self) -> Iterable[Audio]:
        """Emit the frames that are left."""
        line, self._line = self._line, None
        return () if line is None else [block for block in line.blocks if len(block.frames)]

    def close(self) -> None:
        self._line = None

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the audio in the line."""
        return 0 if self._line is None else sum(block.frames.nbytes for block in self._line.blocks)
