"""State of a session's sources: the position of each in its stream, and the rows that wait for their chunks.

Plain state, with its arithmetic and the checks of sequence numbers. `engine.session.admission` decides what happens to
it and when.
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
    """A look inside an admission, for tests and metrics."""

    credits_used: int
    rows_held: int
    rows_ready: int
    rows_inside: int
    next_sequence: int | None


class Position:
    """Where a source's next chunk begins. What rounding takes at a change of rate is kept, so as not to add up."""

    __slots__ = ("_rest", "frames", "last_frames", "sample_rate")

    def __init__(self) -> None:
        self.frames = 0
        self.last_frames = 0
        self.sample_rate = 0
        self._rest = 0.0

    @property
    def seconds(self) -> float:
        """How far it is."""
        return self.frames / self.sample_rate if self.sample_rate else 0.0

    def begin_with(self, other: Position) -> None:
        """Begin where another source stands."""
        self.frames, self.sample_rate, self._rest = other.frames, other.sample_rate, other._rest

    def place(self, audio: Audio) -> Audio:
        """Give a chunk its position, and move on by its length."""
        if audio.sample_rate != self.sample_rate:
            self._change_rate(audio.sample_rate)
        self.last_frames = len(audio.frames)
        start = self.frames
        self.frames += self.last_frames
        return audio.placed(start)

    def _change_rate(self, sample_rate: int) -> None:
        if self.sample_rate:
            frames, part = divmod(self.frames * sample_rate, self.sample_rate)
            rest = (part + self._rest * sample_rate) / self.sample_rate
            self.frames = frames + round(rest)
            self._rest = rest - round(rest)
        self.sample_rate = sample_rate

    def skip(self, chunks: int) -> None:
        """Move on by chunks that never came, each as long as the last."""
        self.frames += chunks * self.last_frames


class Source:
    """One source of the session.

    Attributes:
      is_side_input: It gives data only, beside sources of audio: never waited for.
      newest: Highest number seen, or -1.
      recent: Bit i tells whether it gave number `next - 1 - i`: to tell a duplicate from a late chunk.
      ended: It will give no more (one-shot calls know).
      waiting: Chunks of a side-input source that wait for the next row.
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
        """Whether it has ended, and all that it gave is in rows before this one."""
        return self.ended and not self.waiting and number is not None and self.newest < number

    def go_past(self, numbers: int) -> None:
        """Note that so many rows went without it."""
        self.recent = self.recent << numbers & _RECENT if numbers < 64 else 0

    def go_on(self, given: bool) -> None:
        """Note that a row went, with or without its chunk."""
        self.recent = (self.recent << 1 | given) & _RECENT

    def next_row(self, chunk: Chunk) -> Row:
        """A row of this chunk alone: the next of this source, which is the only one."""
        self.newest = chunk.sequence
        self.go_on(True)
        row, item = Row(chunk.sequence), chunk.item
        row.take(chunk, self.id, self.position.place(item) if isinstance(item, Audio) else item)
        return row

    def passed(self, number: int, expected: int) -> ChunkRefused:
        """What is wrong with a number below the next one expected: what it gave is remembered for 64 rows."""
        back = expected - 1 - number
        if back < 64 and self.recent >> back & 1:
            return self.duplicate(number)
        return LateChunk(f"sequence {number} is late: {expected} is the next expected", context={"expected": expected})

    def duplicate(self, number: int) -> DuplicateChunk:
        """What is wrong with a number that it gave before; who numbers every chunk 0 is told so."""
        zeros = number == 0 and self.newest == 0
        hint = "; is every chunk numbered 0? Numbers rise by one: 0, 1, 2, ..." if zeros else ""
        return DuplicateChunk(f"sequence {number} has been received from source {self.id!r} before{hint}")


class PendingRow:
    """A row that has not gone yet: what each source gave for it; None where its chunk was refused or dropped."""

    __slots__ = ("dropped", "given", "since")

    def __init__(self, since: float) -> None:
        self.given: dict[str, Chunk | None] = {}
        self.since = since
        self.dropped = False


def begin_late(silent: list[Source], sources: list[Source], row: PendingRow) -> list[Source]:
    """Have a source that speaks for the first time begin where the furthest of all stands.

    Returns:
      Those that are still silent after this row.
    """
    furthest = max((source.position for source in sources), key=lambda position: position.seconds)
    for source in silent:
        if row.given.get(source.id) is not None:
            source.position.begin_with(furthest)
    return [source for source in silent if row.given.get(source.id) is None]


def check_number(source: Source, number: int, expected: int | None, held: PendingRow | None) -> None:
    """Check a source's number.

    Args:
      source: Whose chunk it is; not one of data beside audio.
      number: The chunk's.
      expected: The next number; None before the first.
      held: The waiting row of that number, if there is one.

    Raises:
      ChunkRefused: it is a duplicate, late, or too far ahead.
    """
    if expected is None:
        return
    if number < expected:
        raise source.passed(number, expected)
    if number - expected > MAX_JUMP:
        raise SequenceJump(
            f"sequence {number} is {number - expected} ahead of {expected}, the next expected;"
            f" a jump may be at most {MAX_JUMP}",
            context={"expected": expected, "max_jump": MAX_JUMP},
        )
    if held is not None and source.id in held.given:
        raise source.duplicate(number)


class SideInputs:
    """The chunks of the sources of data beside audio, which wait for the next row.

    Args:
      sources: Of data, beside audio.
      capacity: The session's credits, of which they may not take the last.
    """

    def __init__(self, sources: Sequence[Source], capacity: int) -> None:
        self._sources = sources
        self._capacity = capacity
        self.waiting = 0

    def check(self, source: Source, number: int) -> None:
        """Check the number of a chunk, which has to rise, and that there is room for it.

        Raises:
          ChunkRefused: it does not rise, or so many chunks wait that no room is left for audio.
        """
        if number == source.newest:
            raise source.duplicate(number)
        if number < source.newest:
            raise DuplicateChunk(
                f"sequence {number} of data source {source.id!r} is not above its last, {source.newest}"
            )
        if self.waiting >= self._capacity - 1:
            raise SourceTooFarAhead(
                f"{self.waiting} data chunks wait for a row of audio; of {self._capacity} credits one is kept"
                f" for audio, so {source.id!r} may send no more until audio comes",
                context={"waiting": self.waiting, "input_capacity": self._capacity},
            )

    def add(self, source: Source, chunk: Chunk) -> None:
        """Have a chunk wait."""
        source.waiting.append(chunk)
        source.newest = chunk.sequence
        self.waiting += 1

    def take(self) -> list[tuple[Source, Chunk]]:
        """All that wait, source by source; they no longer do."""
        taken = [(source, chunk) for source in self._sources for chunk in source.waiting]
        for source in self._sources:
            source.waiting = []
        self.waiting = 0
        return taken
