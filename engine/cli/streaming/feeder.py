"""Audio into a session: cut into chunks, sent as fast as the session takes them or as a microphone would."""

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
    """When each chunk set out, until its result is here; bounded, the oldest are forgotten first."""

    _times: dict[int, float] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._times)

    def note(self, sequence: int, at: float) -> None:
        """This chunk set out now; numbers rise."""
        self._times[sequence] = at
        if len(self._times) > _MAX_REMEMBERED:
            del self._times[next(iter(self._times))]

    def take(self, sequence: int) -> float | None:
        """When this chunk set out; it and those before it (they were dropped or refused) are forgotten."""
        at = self._times.pop(sequence, None)
        while self._times and (oldest := next(iter(self._times))) < sequence:
            del self._times[oldest]
        return at


@attrs.frozen
class Pace:
    """How audio is cut and when it goes.

    Attributes:
      chunk_ms: Length of a chunk; where that is no whole number of frames, chunks differ by one.
      realtime: A chunk goes when its last frame would have been heard, else as soon as the session takes it.
    """

    chunk_ms: float = 20.0
    realtime: bool = False
    sample_format: SampleFormat = "f32"

    def edge(self, chunk: int, sample_rate: int) -> int:
        """The first frame of a chunk: counted from the file's start, so rounding never adds up."""
        return max(chunk, round(chunk * self.chunk_ms * sample_rate / 1000))


class Feeder:
    """Feeds one file to one source, then closes the session.

    Attributes:
      times: When chunks set out, by sequence: in real time when they were due, else when they were handed over, both
        by trio's clock. Waiting for the session's room is part of a latency.
      sent_frames: Frames handed over so far.
      stopped: It sends nothing more.
    """

    def __init__(self, audio: AudioFile, source: str, pace: Pace) -> None:
        self.times = SendTimes()
        self.sent_frames = 0
        self.stopped = trio.Event()
        self._audio, self._source, self._pace = audio, source, pace
        self._stopping = False
        self._pause = trio.CancelScope()

    def stop(self) -> None:
        """Send nothing after the chunk that is being sent, which is sent whole."""
        self._stopping = True
        self._pause.cancel()

    @property
    def sent_s(self) -> float:
        """How much audio has been handed over."""
        return self.sent_frames / self._audio.sample_rate

    def end_of(self, sequence: int) -> float:
        """Where a chunk ends in the file, in seconds."""
        rate = self._audio.sample_rate
        return min(self._pace.edge(sequence + 1, rate), self.sent_frames) / rate

    async def run(self, session: AnySession) -> None:
        """Send everything and close; ends early, and silently, when the session does.

        Raises:
          soundfile.SoundFileError: the file is damaged.
          trio.BrokenResourceError: the connection is; receiving tells why, as a rule.
        """
        try:
            with contextlib.suppress(SessionClosed):
                if await self._send_all(session):
                    await session.close()
        finally:
            self.stopped.set()

    async def _send_all(self, session: AnySession) -> bool:
        """Send every chunk; False if it was stopped before the end."""
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
        """The file in chunks, read about a second at a time, in a thread: a slow disk delays nobody else."""
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
