"""State of a session's sources: the position of each in its stream, and the rows that wait for their chunks.

Plain state, its arithmetic, and the checks of sequence numbers. `engine.session.admission` decides on every change.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from engine.errors import ChunkRefused, DuplicateChunk, LateChunk, SequenceJump, SourceTooFarAhead
from engine.messages import Chunk
from engine.pipeline.row import Row
from nodes.contract import Audio

__all__ = [
    "MAX_JUMP",
    "AdmissionState",
    "PendingRow",
    "Position",
    "SideInputs",
    "Source",
    "begin_late",
    "check_number",
]

MAX_JUMP = 65_536

_RECENT = (1 << 64) - 1


@attrs.frozen
class AdmissionState:
    """A snapshot of an admission's state, for tests."""

    credits_used: int
    rows_held: int
    rows_ready: int
    rows_inside: int
    next_sequence: int | None


class Position:
    """The position of a source's next chunk, in frames at the source's current rate.

    The remainder of the rounding at a change of rate is kept, so that rounding errors do not add up.
    """

    __slots__ = ("_remainder", "frames", "last_frames", "sample_rate")

    def __init__(self) -> None:
        self.frames = 0
        self.last_frames = 0
        self.sample_rate = 0
        self._remainder = 0.0

    @property
    def seconds(self) -> float:
        """Position in seconds."""
        return self.frames / self.sample_rate if self.sample_rate else 0.0

    def begin_with(self, other: Position) -> None:
        """Begin at another source's position."""
        self.frames, self.sample_rate, self._remainder = other.frames, other.sample_rate, other._remainder

    def place(self, audio: Audio) -> Audio:
        """Return the audio at this position, and advance by its length."""
        if audio.sample_rate != self.sample_rate:
            self._change_rate(audio.sample_rate)
        self.last_frames = len(audio.frames)
        start = self.frames
        self.frames += self.last_frames
        return audio.placed(start)

    def _change_rate(self, sample_rate: int) -> None:
        if self.sample_rate:
            frames, part = divmod(self.frames * sample_rate, self.sample_rate)
            rest = (part + self._remainder * sample_rate) / self.sample_rate
            self.frames = frames + round(rest)
            self._remainder = rest - round(rest)
        self.sample_rate = sample_rate

    def skip(self, chunks: int) -> None:
        """Advance by absent chunks, each taken to be as long as the last chunk."""
        self.frames += chunks * self.last_frames


class Source:
    """One source of the session.

    Attributes:
      is_side_input: True for a source of data only, in a session with audio sources; rows never wait for it.
      heard: True once it has sent a chunk, even a refused one.
      newest: Highest number seen, or -1.
      recent: Bit i is set if it sent number `next - 1 - i`, which distinguishes a duplicate from a late chunk.
      ended: True once it will send no more (only one-shot calls know).
      waiting: Chunks of a side input that wait for the next row.
    """

    __slots__ = ("ended", "heard", "id", "is_side_input", "newest", "position", "recent", "waiting")

    def __init__(self, source_id: str, is_side_input: bool) -> None:
        self.id = source_id
        self.is_side_input = is_side_input
        self.heard = False
        self.ended = False
        self.newest = -1
        self.recent = 0
        self.position = Position()
        self.waiting: list[Chunk] = []

    def is_over_by(self, number: int | None) -> bool:
        """Return True if it has ended, and all its chunks are in rows before this number."""
        return self.ended and not self.waiting and number is not None and self.newest < number

    def skip_rows(self, numbers: int) -> None:
        """Note that this many rows went without its chunk."""
        self.recent = self.recent << numbers & _RECENT if numbers < 64 else 0

    def note_row(self, given: bool) -> None:
        """Note that a row went, with or without its chunk."""
        self.recent = (self.recent << 1 | given) & _RECENT

    def next_row(self, chunk: Chunk) -> Row:
        """Make the next row of this chunk alone, for the session's only source."""
        self.newest = chunk.sequence
        self.note_row(True)
        row, item = Row(chunk.sequence), chunk.item
        row.take(chunk, self.id, self.position.place(item) if isinstance(item, Audio) else item)
        return row

    def late_or_duplicate(self, number: int, expected: int) -> ChunkRefused:
        """Make the error for a number below the next expected one; sent numbers are remembered for 64 rows."""
        back = expected - 1 - number
        if back < 64 and self.recent >> back & 1:
            return self.duplicate(number)
        return LateChunk(f"sequence {number} is late: {expected} is the next expected", context={"expected": expected})

    def duplicate(self, number: int) -> DuplicateChunk:
        """Make the error for a number that it sent before, with a hint for a client that numbers every chunk 0."""
        zeros = number == 0 and self.newest == 0
        hint = "; is every chunk numbered 0? Numbers rise by one: 0, 1, 2, ..." if zeros else ""
        return DuplicateChunk(f"sequence {number} has been received from source {self.id!r} before{hint}")


class PendingRow:
    """A waiting row.

    Attributes:
      given: Source id → its chunk for the row; None if the chunk was refused.
      since: Time on the admission's clock when the row began to wait.
      dropped: True if the row is dropped, with all chunks that it has or will get.
    """

    __slots__ = ("dropped", "given", "since")

    def __init__(self, since: float) -> None:
        self.given: dict[str, Chunk | None] = {}
        self.since = since
        self.dropped = False


def begin_late(silent: list[Source], sources: list[Source], row: PendingRow) -> list[Source]:
    """Make each source whose first chunk is in this row begin at the furthest position of all sources.

    Returns:
      Sources still silent after this row.
    """
    furthest = max((source.position for source in sources), key=lambda position: position.seconds)
    for source in silent:
        if row.given.get(source.id) is not None:
            source.position.begin_with(furthest)
    return [source for source in silent if row.given.get(source.id) is None]


def check_number(source: Source, number: int, expected: int | None, held: PendingRow | None) -> None:
    """Check the sequence number of a chunk.

    Args:
      source: The chunk's source; not a side input.
      number: The chunk's sequence number.
      expected: The next number to enter; None before the first chunk.
      held: The waiting row of that number, if there is one.

    Raises:
      ChunkRefused: it is a duplicate, late, or too far ahead.
    """
    if expected is None:
        return
    if number < expected:
        raise source.late_or_duplicate(number, expected)
    if number - expected > MAX_JUMP:
        raise SequenceJump(
            f"sequence {number} is {number - expected} ahead of {expected}, the next expected;"
            f" a jump may be at most {MAX_JUMP}",
            context={"expected": expected, "max_jump": MAX_JUMP},
        )
    if held is not None and source.id in held.given:
        raise source.duplicate(number)


class SideInputs:
    """Chunks of the side inputs, which wait for the next row.

    Args:
      sources: The side inputs.
      capacity: The session's credits; side inputs may not take the last one.

    Attributes:
      waiting: Number of waiting chunks.
    """

    def __init__(self, sources: Sequence[Source], capacity: int) -> None:
        self._sources = sources
        self._capacity = capacity
        self.waiting = 0

    def check(self, source: Source, number: int) -> None:
        """Check that a chunk's number rises, and that there is room for it.

        Raises:
          ChunkRefused: the number does not rise, or the waiting chunks leave no credit for audio.
        """
        if number == source.newest:
            raise source.duplicate(number)
        if number < source.newest:
            raise DuplicateChunk(
                f"sequence {number} of data source {source.id!r} is not above its last, {source.newest}"
            )
        if self.waiting >= self._capacity - 1:
            raise SourceTooFarAhead(
                f"{self.waiting} data chunks wait for a row of audio; one of {self._capacity} credits is reserved"
                f" for audio, so {source.id!r} must wait for the next audio chunk",
                context={"waiting": self.waiting, "input_capacity": self._capacity},
            )

    def add(self, source: Source, chunk: Chunk) -> None:
        """Queue a chunk for the next row."""
        source.waiting.append(chunk)
        source.newest = chunk.sequence
        self.waiting += 1

    def take(self) -> list[tuple[Source, Chunk]]:
        """Take all waiting chunks, source by source."""
        taken = [(source, chunk) for source in self._sources for chunk in source.waiting]
        for source in self._sources:
            source.waiting = []
        self.waiting = 0
        return taken
