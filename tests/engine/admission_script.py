"""An admission driven in a small language, for its tests.

Events: `a3` offers chunk 3 of source a, `!a3` reports a chunk that was refused at the border, `.` advances the time by
50 ms, `F` flushes, `a$` ends source a. Rows: `3ab` is row 3 with chunks of a and b, `F3` the barrier after row 3.
Sources a, b and c send audio, d sends data.
"""

from __future__ import annotations

from typing import Any

from engine.errors import ChunkRefused
from engine.limits import SessionOptions, clamp_options
from engine.messages import Chunk
from engine.pipeline.memory import MemoryAccount
from engine.pipeline.row import Row
from engine.session.accounts import Ledger
from engine.session.admission import Admission
from nodes.contract import Audio, Data, Kind
from tests.engine.harness import tone

AMPLE = 1 << 40


class Gate:
    """An admission with its accounts, driven in the language above. Entered rows stay inside until `hand_over`."""

    def __init__(self, sources: str = "a", memory_bytes: int = AMPLE, **options: Any) -> None:
        kinds = {name: Kind.DATA if name == "d" else Kind.AUDIO for name in sources}
        self.ledger = Ledger()
        self.memory = MemoryAccount(memory_bytes)
        options.setdefault("input_capacity", 1024)
        self.admission = Admission(kinds, clamp_options(SessionOptions(**options)), self.ledger, self.memory)
        self.inside: list[Row] = []
        self.entered: list[Row] = []
        self.refusals: list[tuple[str, ChunkRefused]] = []

    def offer(self, sequence: int, source: str = "a", n_frames: int = 10, rate: int = 16_000, at: float = 0.0) -> bool:
        """Offer a chunk; return True if it was taken, and note a refusal otherwise."""
        item = Data({}) if source == "d" else tone(n_frames, rate=rate)
        try:
            self.admission.offer(Chunk(item, sequence, source, received_at=at, data_bytes=8), source)
        except ChunkRefused as error:
            self.refusals.append((f"{source}{sequence}", error))
            return False
        return True

    def play(self, events: str) -> Gate:
        for event in events.split():
            match event[0], event[-1]:
                case ".", _:
                    for _ in event:
                        self.admission.advance(0.05)
                case "F", _:
                    self.admission.flush(final=False)
                case "!", _:
                    self.admission.refuse(event[1], int(event[2:]))
                case _, "$":
                    self.admission.end_source(event[0])
                case _:
                    self.offer(int(event[1:]), event[0])
            self.enter()
        return self

    def enter(self, now: float = 0.0) -> list[Row]:
        rows = self.admission.take_ready(now)
        self.inside += rows
        self.entered += rows
        return rows

    def hand_over(self, rows: int = 1 << 30) -> None:
        for row in self.inside[:rows]:
            self.memory.release(row.nbytes)
            self.admission.return_row(row)
        del self.inside[:rows]

    @property
    def rows(self) -> str:
        return " ".join(f"F{row.sequence}" if row.flush else f"{row.sequence}{_sources(row)}" for row in self.entered)

    @property
    def refused(self) -> str:
        return " ".join(f"{what} {type(error).__name__}" for what, error in self.refusals)

    def check_books(self) -> None:
        """Check that `received = accepted + refused`, and that every accepted chunk is in a row, dropped or waiting."""
        ledger, state = self.ledger, self.admission.state
        assert ledger.received == ledger.accepted + ledger.refused
        in_rows = sum(row.chunk_count for row in self.entered)
        waiting = state.credits_used - sum(row.credits for row in self.inside) - len(self.replies)
        waiting -= sum(row.flush for row in self.admission.ready)
        assert ledger.accepted == in_rows + ledger.dropped + waiting

    replies: tuple[ChunkRefused, ...] = ()


def _sources(row: Row) -> str:
    return "".join(source * len(items) for source, items in sorted(row.items.items()))


def starts(gate: Gate, source: str = "a") -> list[int]:
    items = [item for row in gate.entered for item in row.items.get(source, ())]
    return [item.start for item in items if isinstance(item, Audio)]
