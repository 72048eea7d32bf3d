"""Admission of chunks to the graph: sequence numbers, holes, sources, credits and overflow.

Sans-io: the session reports events and the passage of time, and takes the rows that may enter.

Rules kept here:
- A session has W credits. A chunk that is read takes one, and so does a FLUSH and a refusal; handing its response over
  returns it. Without a credit nothing more is read.
- All sources share the numbers, which rise by one from the first that is seen. A row is complete when every source
  heard so far has sent its chunk; a refused chunk settles its number for its source.
- A complete row enters when all rows before it have gone. An incomplete row enters when its time is over (which runs
  only while the reader waits for input), when the reorder window is full, at FLUSH and CLOSE, and when the session
  would otherwise be stuck. Its absent chunks are then missing: they are counted, and their positions skipped.
- A source not heard yet is waited for during the session's first `reorder_timeout` only. A side input, which is a
  source of data in a session with audio sources, is never waited for: its chunks join the next row, or the flush.
- Duplicates, late chunks and jumps beyond MAX_JUMP are refused. A smaller jump is counted, without a loop over it.
- With an overflow policy or a maximum age, few rows are inside the graph at a time. The others wait here, where they
  can be dropped whole; positions advance by the dropped chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from time import perf_counter

from engine.errors import ChunkRefused, MemoryLimitExceeded
from engine.limits import MAX_SEQUENCE, Overflow, SessionOptions
from engine.messages import Chunk
from engine.pipeline.memory import MemoryAccount
from engine.pipeline.row import Row
from engine.session.accounts import Ledger
from engine.session.source_state import AdmissionState, PendingRow, SideInputs, Source, begin_late, check_number
from nodes.contract import Audio, Kind

__all__ = ["ROWS_INSIDE", "Admission"]

ROWS_INSIDE = 2
"""Most rows inside the graph at a time if rows may be dropped: one being done and one waiting behind it."""


class Admission:
    """The admission of one session; the module's docstring has its rules.

    Args:
      sources: Source id → the kinds it takes.
      options: Options with the defaults filled in.
      ledger: Counts of the session's chunks.
      memory: Account of the chunks' bytes.

    Attributes:
      ready: Rows that `take_ready` takes or drops next.
    """

    def __init__(
        self, sources: Mapping[str, Kind], options: SessionOptions, ledger: Ledger, memory: MemoryAccount
    ) -> None:
        audio = any(Kind.AUDIO in takes for takes in sources.values())
        self._sources = {name: Source(name, audio and takes is Kind.DATA) for name, takes in sources.items()}
        self._counted = [source for source in self._sources.values() if not source.is_side_input]
        self._alone = len(self._sources) == 1
        self._silent = [] if self._alone else self._counted  # not heard yet; see `begin_late`
        self._any_ended = False  # if False, `take_ready` need not ask every source for `Row.ended`
        sides = [source for source in self._sources.values() if source.is_side_input]
        self.capacity = max(options.input_capacity, len(self._counted) + bool(sides))  # or no row could be complete
        self._side_inputs = SideInputs(sides, self.capacity)
        self._window = min(options.reorder_window, self.capacity)
        self._timeout = options.reorder_timeout_ms / 1000
        self._overflow = options.overflow
        self._is_direct = self._alone and options.overflow is not Overflow.DROP_NEWEST  # allows `_admit_directly`
        self._max_age = options.max_age_ms / 1000
        may_drop = options.overflow is not Overflow.BLOCK or options.max_age_ms
        self._rows_inside_limit = min(ROWS_INSIDE, self.capacity) if may_drop else self.capacity
        self._ledger = ledger
        self._memory = memory
        self._next: int | None = None
        self._last: int | None = None
        self._held: dict[int, PendingRow] = {}
        self.ready: deque[Row] = deque()
        self._clock = 0.0
        self._first_heard = 0.0
        self._rows_inside = 0
        self._credits = 0
        self._replies = 0

    # ---- questions of the session

    @property
    def state(self) -> AdmissionState:
        """Credits, rows and the next number, for tests."""
        return AdmissionState(self._credits, len(self._held), len(self.ready), self._rows_inside, self._next)

    @property
    def is_under_way(self) -> bool:
        """True if rows are inside or refusals wait to be handed over: their return will make room."""
        return bool(self._rows_inside or self._replies)

    def has_credit(self) -> bool:
        """Return True if a FLUSH may be offered now; on False, do as for `has_room`."""
        if self._credits >= self.capacity:
            self._make_room(0)
        return self._credits < self.capacity

    def has_room(self, nbytes: int = 0) -> bool:
        """Return True if a chunk of this many bytes may be offered now.

        The call drops rows if the overflow policy says so, and makes waiting rows ready when nothing else could ever
        free a credit or memory. On False, enter the rows of `take_ready`; then wait for a return or, if nothing
        `is_under_way`, ask again. For a chunk that can never fit it returns True, and `offer` refuses the chunk.
        """
        if self._is_free(nbytes):
            return True
        if self._overflow is Overflow.DROP_NEWEST:
            return self._replies < self.capacity
        self._make_room(nbytes)
        if self.ready or self.is_under_way:
            return self._is_free(nbytes)
        return self._credits < self.capacity

    # ---- events

    def offer(self, chunk: Chunk, source_id: str) -> None:
        """Take a chunk of this source, after `has_room` returned True.

        Raises:
          ChunkRefused: it is a duplicate, late, too far ahead or too large. The ledger counts it as refused.
        """
        source = self._sources[source_id]
        self._ledger.received += 1
        if chunk.sequence == self._next and not self._held and self._is_direct and self._memory.take(chunk.nbytes):
            self._admit_directly(source, chunk)
            return
        try:
            self._check(source, chunk)
        except ChunkRefused as error:
            self._ledger.refused += 1
            if isinstance(error, MemoryLimitExceeded):
                self._settle_number(source, chunk.sequence)
            raise
        self._accept(chunk)
        if self._overflow is Overflow.DROP_NEWEST and not self._is_free(chunk.nbytes):
            self._drop_newest(source, chunk)
            return
        self._credits += 1
        self._memory.add(chunk.nbytes)
        if source.is_side_input:
            self._side_inputs.add(source, chunk)
        else:
            self._hold(source, chunk.sequence, chunk)
            self._settle()

    def _admit_directly(self, source: Source, chunk: Chunk) -> None:
        """Finish `offer` in the usual case: the next number of the only source, no waiting row, memory accounted."""
        self._accept(chunk)
        self._credits += 1
        self._last = chunk.sequence
        self._next = chunk.sequence + 1
        self.ready.append(source.next_row(chunk))

    def _accept(self, chunk: Chunk) -> None:
        self._ledger.accepted += 1
        if isinstance(chunk.item, Audio):
            self._ledger.samples += chunk.item.samples

    def refuse(self, source_id: str, sequence: int | None) -> None:
        """Count a chunk that was refused before it came here, and settle its number if that is valid."""
        self._ledger.received += 1
        self._ledger.refused += 1
        source = self._sources.get(source_id)
        if source is None or source.is_side_input or sequence is None or not 0 <= sequence <= MAX_SEQUENCE:
            return
        try:
            check_number(source, sequence, self._next, self._held.get(sequence))
        except ChunkRefused:
            return
        self._settle_number(source, sequence)

    def flush(self, *, final: bool) -> None:
        """Settle every hole at once, and put a barrier after all rows. Takes a credit."""
        while self._held:
            self._make_ready(min(self._held))
        row = Row(self._last, flush=True, final=final)
        row.received_at = perf_counter()
        self._credits += 1
        self._take_side_inputs(row)
        self.ready.append(row)

    def end_source(self, source_id: str) -> None:
        """Note that a source has sent its last chunk: rows do not wait for it, and count nothing of it as missing."""
        self._sources[source_id].ended = True
        self._any_ended = True
        self._settle()

    def advance(self, seconds: float) -> None:
        """Advance the clock; call this only for time in which the reader was waiting for input."""
        self._clock += seconds
        self._settle()

    def take_ready(self, now: float) -> list[Row]:
        """Take the rows that enter the graph now, in order, and drop rows that have become too old.

        Args:
          now: Time on the clock of `Chunk.received_at`.
        """
        entering: list[Row] = []
        while self.ready and self._rows_inside < self._rows_inside_limit:
            row = self.ready.popleft()
            if self._max_age and not row.flush and now - row.received_at > self._max_age:
                self._drop(row)
                continue
            self._rows_inside += 1
            if self._any_ended:
                row.ended = frozenset(each.id for each in self._sources.values() if each.is_over_by(row.sequence))
            entering.append(row)
        return entering

    def take_reply(self) -> None:
        """Take a credit for a refusal that waits to be handed over."""
        self._credits += 1
        self._replies += 1

    def return_reply(self) -> None:
        """Return the credit of a refusal that has been handed over."""
        self._credits -= 1
        self._replies -= 1

    def return_row(self, row: Row) -> None:
        """Return the credits of a row whose response has been handed over."""
        self._credits -= row.credits
        self._rows_inside -= 1

    def abandon(self) -> int:
        """Discard all waiting rows and chunks; return the number of chunks."""
        held = [chunk for row in self._held.values() if not row.dropped for chunk in row.given.values()]
        chunks = [chunk for chunk in held if chunk is not None]
        chunks += [chunk for _, chunk in self._side_inputs.take()]
        nbytes = sum(chunk.nbytes for chunk in chunks) + sum(row.nbytes for row in self.ready)
        count = len(chunks) + sum(row.chunk_count for row in self.ready)
        self._held.clear()
        self.ready.clear()
        self._memory.release(nbytes)
        return count

    # ---- checks

    def _is_free(self, nbytes: int) -> bool:
        return self._credits < self.capacity and self._memory.fits(nbytes)

    def _check(self, source: Source, chunk: Chunk) -> None:
        if source.is_side_input:
            self._side_inputs.check(source, chunk.sequence)
        else:
            check_number(source, chunk.sequence, self._next, self._held.get(chunk.sequence))
        if self._overflow is not Overflow.DROP_NEWEST and not self._memory.fits(chunk.nbytes):
            raise MemoryLimitExceeded(
                f"a chunk of {chunk.nbytes} bytes does not fit: {self._memory.used} of {self._memory.limit}"
                " accounted bytes are in use, and nothing under way will free enough",
                context={"bytes": chunk.nbytes, "used": self._memory.used, "limit": self._memory.limit},
            )

    # ---- waiting rows

    def _make_room(self, nbytes: int) -> None:
        while self._overflow is Overflow.DROP_OLDEST and not self._is_free(nbytes) and self._drop_oldest():
            pass
        while self._held and not (self.ready or self.is_under_way or self._is_free(nbytes)):
            self._make_ready(min(self._held))

    def _hold(self, source: Source, number: int, chunk: Chunk | None) -> PendingRow:
        if self._next is None:
            self._next = number
            self._first_heard = self._clock
        source.heard = True
        source.newest = max(source.newest, number)
        held = self._held.get(number)
        if held is None:
            held = self._held[number] = PendingRow(self._clock)
        held.given[source.id] = chunk
        if held.dropped and chunk is not None:
            self._forget(chunk)
        return held

    def _settle_number(self, source: Source, number: int) -> None:
        """Note a number whose chunk was seen but not taken, so that it is not a hole."""
        if not source.is_side_input:
            self._hold(source, number, None)
            self._settle()

    def _settle(self) -> None:
        """Make all rows ready that need not wait any longer."""
        held = self._held
        while held:
            number = min(held)
            if (
                (number == self._next and self._is_complete(held[number]))
                or len(held) >= self._window
                or self._has_waited(next(iter(held.values())).since)  # the first in the dict has waited longest
            ):
                self._make_ready(number)
            else:
                return

    def _is_complete(self, held: PendingRow) -> bool:
        if self._alone:
            return True
        grace = not self._has_waited(self._first_heard)
        given = held.given
        return all(source.id in given or source.ended or not (source.heard or grace) for source in self._counted)

    def _has_waited(self, since: float) -> bool:
        return since + self._timeout <= self._clock + 1e-9  # sums of steps are not exact

    def _make_ready(self, number: int) -> None:
        """Move a waiting row to `ready`, and settle the missing numbers below it and the missing chunks in it."""
        assert self._next is not None
        held = self._held.pop(number)
        missed = number - self._next
        row = Row(number)
        if missed:
            for source in self._counted:
                self._miss(source, missed)
                source.skip_rows(missed)
        if self._silent:
            self._silent = begin_late(self._silent, self._counted, held)
        for source in self._counted:
            self._place(source, held, row)
        self._next = number + 1
        if row.chunk_count:
            self._last = number
            self._take_side_inputs(row)
            self.ready.append(row)

    def _place(self, source: Source, held: PendingRow, row: Row) -> None:
        """Put a source's chunk into a row at its position, or skip the position of an absent one."""
        given = source.id in held.given
        source.note_row(given)
        chunk = held.given.get(source.id)
        if chunk is None:
            if given:
                source.position.skip(1)
            else:
                self._miss(source, 1)
            return
        item = source.position.place(chunk.item) if isinstance(chunk.item, Audio) else chunk.item
        if not held.dropped:
            row.take(chunk, source.id, item)

    def _miss(self, source: Source, chunks: int) -> None:
        if source.heard and not source.ended:
            self._ledger.missing += chunks
            source.position.skip(chunks)

    def _take_side_inputs(self, row: Row) -> None:
        if self._side_inputs.waiting:
            for source, chunk in self._side_inputs.take():
                row.take(chunk, source.id, chunk.item)

    # ---- dropping

    def _drop(self, row: Row) -> None:
        self._credits -= row.credits
        self._memory.release(row.nbytes)
        self._ledger.dropped += row.chunk_count

    def _forget(self, chunk: Chunk) -> None:
        self._credits -= 1
        self._memory.release(chunk.nbytes)
        self._ledger.dropped += 1

    def _drop_oldest(self) -> bool:
        """Drop the oldest row that has not entered; return False if there is none."""
        for row in self.ready:
            if not row.flush:
                self.ready.remove(row)
                self._drop(row)
                return True
        if not self._held:
            return False
        number = min(self._held)
        self._drop_held(self._held[number])
        self._make_ready(number)
        return True

    def _drop_held(self, held: PendingRow) -> None:
        if not held.dropped:
            held.dropped = True
            for chunk in held.given.values():
                if chunk is not None:
                    self._forget(chunk)

    def _drop_newest(self, source: Source, chunk: Chunk) -> None:
        """Drop a chunk on arrival, together with the row that it belongs to."""
        self._ledger.dropped += 1
        if source.is_side_input:
            source.newest = chunk.sequence
            return
        held = self._hold(source, chunk.sequence, None)
        self._drop_held(held)
        held.given[source.id] = chunk
        self._settle()
