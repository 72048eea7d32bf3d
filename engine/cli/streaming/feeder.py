"""Send audio to a session: cut into chunks, at a microphone's pace or as fast as the session takes them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator

import attrs
import trio

from engine.cli.streaming.audio_files import AudioFile
from engine.cli.streaming.sessions import AnySession
from engine.errors import SessionClosed
from engine.messages import Chunk
from nodes.contract import Audio, SampleFormat

__all__ = ["Feeder", "Pace", "SendTimes"]

_READ_S = 1.0
_MAX_REMEMBERED = 65_536


@attrs.define
class SendTimes:
    """Send times of chunks without a result yet. Bounded: the oldest are forgotten first."""

    _times: dict[int, float] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._times)

    def note(self, sequence: int, at: float) -> None:
        """Record the send time of a chunk; sequence numbers rise."""
        self._times[sequence] = at
        if len(self._times) > _MAX_REMEMBERED:
            del self._times[next(iter(self._times))]

    def take(self, sequence: int) -> float | None:
        """Remove a chunk's send time and return it, or None. Earlier chunks, dropped or refused, are forgotten."""
        at = self._times.pop(sequence, None)
        while self._times and (oldest := next(iter(self._times))) < sequence:
            del self._times[oldest]
        return at


@attrs.frozen
class Pace:
    """Length, pace and format of the chunks.

    Attributes:
      chunk_ms: Length of a chunk; if that is not a whole number of frames, chunks differ by one frame.
      realtime: Send a chunk when a microphone would have recorded its last frame, else as soon as the session takes it.
    """

    chunk_ms: float = 20.0
    realtime: bool = False
    sample_format: SampleFormat = "f32"

    def edge(self, chunk: int, sample_rate: int) -> int:
        """Return the first frame of a chunk, counted from the file's start, so that rounding errors do not add up."""
        return max(chunk, round(chunk * self.chunk_ms * sample_rate / 1000))


class Feeder:
    """Sends one file to one source, then closes the session.

    Attributes:
      times: Send times by trio's clock: the time a chunk was due if paced in real time, else the time it was handed
        to the session. So a latency includes the wait for room in the session.
      sent_frames: Number of frames handed to the session so far.
      stopped: Set when nothing more will be sent.
    """

    def __init__(self, audio: AudioFile, source: str, pace: Pace) -> None:
        self.times = SendTimes()
        self.sent_frames = 0
        self.stopped = trio.Event()
        self._audio, self._source, self._pace = audio, source, pace
        self._stopping = False
        self._pause = trio.CancelScope()

    def stop(self) -> None:
        """Stop after the chunk that is being sent; that chunk is still sent whole."""
        self._stopping = True
        self._pause.cancel()

    @property
    def sent_s(self) -> float:
        """Seconds of audio handed to the session so far."""
        return self.sent_frames / self._audio.sample_rate

    def end_of(self, sequence: int) -> float:
        """Return the end of a chunk in the file, in seconds."""
        rate = self._audio.sample_rate
        return min(self._pace.edge(sequence + 1, rate), self.sent_frames) / rate

    async def run(self, session: AnySession) -> None:
        """Send the whole file and close the session; return early, without an error, if the session ends first.

        Raises:
          soundfile.SoundFileError: the file is damaged.
          trio.BrokenResourceError: the connection is broken; as a rule, receiving raises the reason.
        """
        try:
            with contextlib.suppress(SessionClosed):
                if await self._send_all(session):
                    await session.close()
        finally:
            self.stopped.set()

    async def _send_all(self, session: AnySession) -> bool:
        """Send every chunk; return False if stopped before the end."""
        began = trio.current_time()
        sequence = 0
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                due = began + (self.sent_frames + len(chunk.frames)) / chunk.sample_rate
                if self._pace.realtime:
                    await self._pause_until(due)
                else:
                    await trio.lowlevel.checkpoint()
                if self._stopping:
                    return False
                self.times.note(sequence, due if self._pace.realtime else trio.current_time())
                at_ms = self.sent_frames * 1000 // chunk.sample_rate
                await session.send(Chunk(chunk, sequence, self._source, at_ms))
                self.sent_frames += len(chunk.frames)
                sequence += 1
        return True

    async def _pause_until(self, due: float) -> None:
        with trio.CancelScope() as self._pause:
            await trio.sleep_until(due)

    async def _chunks(self) -> AsyncGenerator[Audio, None]:
        """Yield the file's chunks. A thread reads about a second at a time, so a slow disk does not block the loop."""
        rate, pace = self._audio.sample_rate, self._pace
        together = max(1, int(_READ_S * 1000 / pace.chunk_ms))
        first = 0
        while True:
            edges = [pace.edge(first + i, rate) for i in range(together + 1)]
            block = await trio.to_thread.run_sync(self._audio.read, edges[-1] - edges[0], pace.sample_format)
            for start, stop in itertools.pairwise(edges):
                if len(frames := block.frames[start - edges[0] : stop - edges[0]]):
                    yield Audio(frames, rate)
            if len(block.frames) < edges[-1] - edges[0]:
                return
            first += together
