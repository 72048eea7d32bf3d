"""Admission: which chunks enter, when, in what order, and what becomes of the others.

The tables are written in a small language. Events: `a3` offers chunk 3 of source a, `!a3` tells of a chunk that was
refused at the border, `.` lets 50 ms pass, `F` flushes, `a$` says that source a gives no more. Rows: `3ab` is row 3
with chunks of a and b, `F3` the barrier after row 3. Sources a, b and c give audio, d data.
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.admission import ROWS_INSIDE, Admission
from engine.arrivals import MAX_JUMP
from engine.errors import ChunkRefused, MemoryLimitExceeded, SourceTooFarAhead
from engine.ledger import Ledger, MemoryAccount
from engine.limits import Overflow, SessionOptions, clamp_options
from engine.packet import Chunk
from engine.row import Row
from nodes.contract import Audio, Data, Kind
from tests.engine.rig import tone

AMPLE = 1 << 40


class Gate:
    """An admission with its accounts, driven in the language above. Rows that enter stay inside until `hand_over`."""

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
        """Offer a chunk; a refusal is noted. Returns whether it was taken."""
        item = Data({}) if source == "d" else tone(n_frames, rate=rate)
        try:
            self.admission.offer(Chunk(item, sequence, source, received_at=at, data_bytes=8))
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
        """`received = accepted + refused`, and every accepted chunk is in a row, dropped or waiting."""
        ledger, state = self.ledger, self.admission.state
        assert ledger.received == ledger.accepted + ledger.refused
        in_rows = sum(row.chunk_count for row in self.entered)
        waiting = state.credits_used - sum(row.credits for row in self.inside) - len(self.replies)
        waiting -= sum(row.flush for row in self.admission._ready)
        assert ledger.accepted == in_rows + ledger.dropped + waiting

    replies: tuple[ChunkRefused, ...] = ()


def _sources(row: Row) -> str:
    return "".join(source * len(items) for source, items in sorted(row.items.items()))


# ---- one source ------------------------------------------------------------------------------

ONE_SOURCE = {
    "in order": ("a0 a1 a2", "0a 1a 2a", "", 0),
    "the first number is the base": ("a7 a8", "7a 8a", "", 0),
    "swapped within the window": ("a0 a2 a1", "0a 1a 2a", "", 0),
    "reversed within the window": ("a0 a4 a3 a2 a1", "0a 1a 2a 3a 4a", "", 0),
    "a hole is waited for": ("a0 a2 ...", "0a", "", 0),
    "until its time is over": ("a0 a2 ....", "0a 2a", "", 1),
    "the time is the oldest row's": ("a0 a2 .. a4 ..", "0a 2a", "", 1),
    "also if a lower one came later": ("a0 a5 .. a3 ..", "0a 3a 5a", "", 3),
    "what fills the hole in time is in order": ("a0 a2 ... a1 ....", "0a 1a 2a", "", 0),
    "what comes after is late": ("a0 a2 .... a1", "0a 2a", "a1 LateChunk", 1),
    "a second time": ("a0 a0", "0a", "a0 DuplicateChunk", 0),
    "a second time while it waits": ("a0 a2 a2 a1", "0a 1a 2a", "a2 DuplicateChunk", 0),
    "a second time, later": ("a0 a1 a2 a3 a1", "0a 1a 2a 3a", "a1 DuplicateChunk", 0),
    "before the base": ("a5 a4", "5a", "a4 LateChunk", 0),
    "flush with nothing before": ("F", "FNone", "", 0),
    "flush comes after its rows": ("a0 a1 F a2", "0a 1a F1 2a", "", 0),
    "flush settles holes": ("a0 a2 a5 F", "0a 2a 5a F5", "", 3),
    "what fills a hole after the flush is late": ("a0 a2 F a1", "0a 2a F2", "a1 LateChunk", 1),
    "flush twice": ("a0 F F", "0a F0 F0", "", 0),
    "numbers go on after a flush": ("a0 F a1", "0a F0 1a", "", 0),
    "a refused chunk is no hole": ("a0 !a1 a2", "0a 2a", "", 0),
    "a refused chunk that comes early is none": ("a0 !a2 a1 a3", "0a 1a 3a", "", 0),
    "a refused chunk sets the base": ("!a4 a5", "5a", "", 0),
    "the number of a refused chunk is used": ("a0 !a1 a1 a2", "0a 2a", "a1 DuplicateChunk", 0),
    "two of one refused number count once": ("a0 !a1 !a1 a2", "0a 2a", "", 0),
    "a refused late chunk settles nothing": ("a3 !a1 a4", "3a 4a", "", 0),
    "refused numbers that no client can send set no base": ("!a-5 a0 a1", "0a 1a", "", 0),
    "the largest number": (f"a{2**64 - 2} a{2**64 - 1}", f"{2**64 - 2}a {2**64 - 1}a", "", 0),
    "ended before it began": ("a$ F", "FNone", "", 0),
}


@pytest.mark.parametrize(("events", "rows", "refused", "missing"), ONE_SOURCE.values(), ids=ONE_SOURCE)
def test_one_source(events: str, rows: str, refused: str, missing: int) -> None:
    gate = Gate("a").play(events)
    assert (gate.rows, gate.refused, gate.ledger.missing) == (rows, refused, missing)
    gate.check_books()


def test_the_reorder_window_bounds_what_waits_for_a_hole() -> None:
    gate = Gate("a", reorder_window=4).play("a0 a2 a3 a4")
    assert gate.rows == "0a"
    gate.play("a5")
    assert gate.rows == "0a 2a 3a 4a 5a"
    assert gate.ledger.missing == 1


def test_a_window_of_one_waits_for_nothing() -> None:
    gate = Gate("a", reorder_window=1).play("a0 a3 a1")
    assert (gate.rows, gate.refused, gate.ledger.missing) == ("0a 3a", "a1 LateChunk", 2)


def test_duplicates_are_told_from_late_chunks_for_64_rows() -> None:
    gate = Gate("a").play(" ".join(f"a{i}" for i in range(66)))
    gate.play("a2 a1")
    assert gate.refused == "a2 DuplicateChunk a1 LateChunk"


def test_gaps_do_not_blur_what_is_remembered() -> None:
    gate = Gate("a").play("a0 a10 .... a0 a5 a10 a99 .... a10 a99 a98")
    assert gate.refused.split()[1::2] == [
        "DuplicateChunk",
        "LateChunk",
        "DuplicateChunk",
        "LateChunk",  # 88 rows went past: forgotten
        "DuplicateChunk",
        "LateChunk",
    ]


def test_a_jump_of_65536_is_counted_and_one_more_is_refused() -> None:
    gate = Gate("a").play("a0")
    assert not gate.offer(1 + MAX_JUMP + 1)
    assert gate.offer(1 + MAX_JUMP)
    gate.play("....")
    assert gate.rows == f"0a {1 + MAX_JUMP}a"
    assert gate.refused == f"a{2 + MAX_JUMP} SequenceJump"
    assert gate.ledger.missing == MAX_JUMP == 65_536


def test_a_jump_costs_no_loop_over_its_numbers() -> None:
    """4,000 jumps skip 262 million numbers: looping over them would take minutes."""
    gate = Gate("a", reorder_window=1)
    for jump in range(4_000):
        assert gate.offer(jump * (MAX_JUMP + 1))
        gate.enter()
        gate.hand_over()
    assert gate.ledger.missing == 3_999 * MAX_JUMP


@pytest.mark.parametrize("sources", ["a", "ab", "ad"])
def test_a_client_that_numbers_every_chunk_0_is_told(sources: str) -> None:
    """Also while row 0 still waits for another source; also a source of data only."""
    gate = Gate(sources)
    last = sources[-1] if sources == "ad" else "a"
    gate.play(f"{last}0 {last}0")
    (_, error), *rest = gate.refusals
    assert not rest
    assert "is every chunk numbered 0?" in error.message


def test_no_hint_where_numbers_do_rise() -> None:
    gate = Gate("a").play("a0 a1 a0")
    assert "numbered 0" not in gate.refusals[0][1].message


# ---- several sources -------------------------------------------------------------------------

SEVERAL = {
    "a row waits for all that have spoken": ("ab", "a0 b0 a1", "0ab", "", 0),
    "in any order": ("ab", "b0 a0 a1 b1", "0ab 1ab", "", 0),
    "one not heard yet is waited for": ("ab", "a0 ...", "", "", 0),
    "for 200 ms, and is missing nothing": ("ab", "a0 ....", "0a", "", 0),
    "and for nothing after them": ("ab", "a0 .... a1 a2", "0a 1a 2a", "", 0),
    "the first 200 ms are the session's": ("ab", "a0 .... a1 .", "0a 1a", "", 0),
    "who speaks late is waited for from then on": ("ab", "a0 .... b1 a1 a2 b2", "0a 1ab 2ab", "", 0),
    "rows that go before it speaks are no loss": ("ab", "a0 a1 .... b5 .... a5", "0a 1a 5b", "a5 LateChunk", 4 + 3),
    "one that falls silent is missing": ("ab", "a0 b0 a1 ....", "0ab 1a", "", 1),
    "holes are counted for each source": ("ab", "a0 b0 a3 b3 ....", "0ab 3ab", "", 4),
    "a source that ended is waited for no more": ("ab", "a0 b0 b$ a1 a2", "0ab 1a 2a", "", 0),
    "ending lets go of what waits": ("ab", "a0 b0 a1 b$", "0ab 1a", "", 0),
    "one that never began may end": ("ab", "b$ a0", "0a", "", 0),
    "a refused chunk settles its own source": ("ab", "a0 b0 a1 !b1", "0ab 1a", "", 0),
    "and not the other": ("ab", "a0 b0 !b1 b2", "0ab", "", 0),
    "a row of refused chunks only is no row": ("ab", "a0 b0 !a1 !b1 a2 b2", "0ab 2ab", "", 0),
    "flush settles rows that wait for a source": ("ab", "a0 b0 a1 F", "0ab 1a F1", "", 1),
    "duplicates are told for each source": ("ab", "a0 b0 b0", "0ab", "b0 DuplicateChunk", 0),
    "three sources": ("abc", "a0 b0 c0 c1 a1 b1", "0abc 1abc", "", 0),
    "data beside audio is not waited for": ("ad", "d0 a0 a1", "0ad 1a", "", 0),
    "it joins the next row, whatever its number": ("ad", "a0 d9 a1 a2", "0a 1ad 2a", "", 0),
    "all that wait join it": ("ad", "d0 d1 d2 a0", "0addd", "", 0),
    "or the flush": ("ad", "a0 d0 F a1", "0a F0 1a", "", 0),
    "its numbers have to rise": ("ad", "d5 d5 d4 d6 a0", "0add", "d5 DuplicateChunk d4 DuplicateChunk", 0),
    "its numbers are no base": ("ad", "d7 a0 a1", "0ad 1a", "", 0),
    "a refused data chunk settles nothing": ("ad", "!d3 a0 a1", "0a 1a", "", 0),
    "data alone is waited for like audio": ("d", "d0 d2 ....", "0d 2d", "", 1),
}


@pytest.mark.parametrize(("sources", "events", "rows", "refused", "missing"), SEVERAL.values(), ids=SEVERAL)
def test_several_sources(sources: str, events: str, rows: str, refused: str, missing: int) -> None:
    gate = Gate(sources).play(events)
    assert (gate.rows, gate.refused, gate.ledger.missing) == (rows, refused, missing)
    gate.check_books()


def test_data_beside_audio_goes_with_the_flush() -> None:
    gate = Gate("ad").play("a0 d0 d1 F")
    barrier = gate.entered[-1]
    assert barrier.flush
    assert len(barrier.items["d"]) == barrier.chunk_count == 2
    assert barrier.credits == 3


def test_data_that_runs_ahead_of_audio_is_refused_and_leaves_a_credit_for_audio() -> None:
    gate = Gate("ad", input_capacity=4).play("d0 d1 d2")
    assert not gate.refusals
    assert gate.admission.has_room()
    assert not gate.offer(3, "d")
    assert isinstance(gate.refusals[0][1], SourceTooFarAhead)
    assert gate.admission.has_room()
    gate.play("a0")
    assert gate.rows == "0addd"


def test_time_runs_only_when_told_to() -> None:
    gate = Gate("a", reorder_timeout_ms=60_000).play("a0 a2" + " ...................." * 59)
    assert gate.rows == "0a"
    gate.play("....................")
    assert gate.rows == "0a 2a"


@pytest.mark.parametrize("sources", ["abc", "abcd"])
def test_there_are_credits_for_one_row_of_all_sources(sources: str) -> None:
    """With fewer, no row could ever be complete."""
    gate = Gate(sources, input_capacity=1)
    for source in reversed(sources):
        assert gate.admission.has_room()
        assert gate.offer(0, source)
    assert len(gate.enter()) == 1
    assert gate.rows == "0abc" + "d" * ("d" in sources)


# ---- positions -------------------------------------------------------------------------------


def starts(gate: Gate, source: str = "a") -> list[int]:
    items = [item for row in gate.entered for item in row.items.get(source, ())]
    return [item.start for item in items if isinstance(item, Audio)]


def test_chunks_stand_end_to_end() -> None:
    gate = Gate("a")
    for sequence, n_frames in enumerate([5, 0, 7, 1]):
        gate.offer(sequence, n_frames=n_frames)
    gate.enter()
    assert starts(gate) == [0, 5, 5, 12]


def test_a_missing_chunk_moves_the_position_on_by_the_last_chunks_length() -> None:
    gate = Gate("a")
    for sequence, n_frames in ((0, 5), (1, 7), (4, 3), (5, 1)):
        gate.offer(sequence, n_frames=n_frames)
    gate.play("....")
    assert starts(gate) == [0, 5, 12 + 2 * 7, 12 + 2 * 7 + 3]


def test_a_refused_chunk_moves_the_position_on_too() -> None:
    gate = Gate("a").play("a0 !a1 a2")
    assert starts(gate) == [0, 20]


def test_positions_are_each_sources_own() -> None:
    gate = Gate("ab")
    for sequence in range(3):
        gate.offer(sequence, "a", 4)
        gate.offer(sequence, "b", 9)
    gate.enter()
    assert starts(gate, "a") == [0, 4, 8]
    assert starts(gate, "b") == [0, 9, 18]


def test_positions_go_on_after_a_flush() -> None:
    gate = Gate("a").play("a0 F a1")
    assert starts(gate) == [0, 10]


def test_a_change_of_rate_keeps_the_moment() -> None:
    gate = Gate("a")
    gate.offer(0, n_frames=48_000, rate=48_000)
    gate.play("F")
    gate.offer(1, n_frames=16_000, rate=16_000)
    gate.offer(2, n_frames=1, rate=16_000)
    gate.play("F")
    gate.offer(3, n_frames=1, rate=44_100)
    gate.enter()
    assert starts(gate) == [0, 16_000, 32_000, round(Fraction(32_001 * 44_100, 16_000))]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([8_000, 11_025, 44_100, 48_000]), st.integers(0, 5)), min_size=1))
def test_changes_of_rate_do_not_add_up_to_a_drift(stretches: list[tuple[int, int]]) -> None:
    gate = Gate("a")
    moment = Fraction(0)
    for sequence, (rate, n_frames) in enumerate(stretches * 8):
        gate.offer(sequence, n_frames=n_frames, rate=rate)
        gate.play("F")
        (start,) = starts(gate)
        gate.hand_over()
        gate.entered.clear()
        assert abs(start - moment * rate) <= Fraction(1, 2) + Fraction(1, 10**6)
        moment += Fraction(n_frames, rate)


# ---- credits and memory ----------------------------------------------------------------------


def test_no_more_than_w_credits_are_ever_in_use() -> None:
    gate = Gate("a", input_capacity=3)
    for sequence in range(3):
        assert gate.admission.has_room()
        gate.offer(sequence)
    gate.enter()
    assert not gate.admission.has_room()
    assert not gate.admission.has_credit()
    gate.hand_over(1)
    assert gate.admission.has_room()
    assert gate.admission.state.credits_used == 2


def test_a_flush_takes_a_credit_and_returns_it() -> None:
    gate = Gate("a", input_capacity=1).play("F")
    assert not gate.admission.has_room()
    gate.hand_over()
    assert gate.admission.has_room()
    assert gate.admission.state.credits_used == 0


def test_a_refusal_takes_a_credit_until_it_has_been_handed_over() -> None:
    gate = Gate("a", input_capacity=1)
    gate.admission.take_reply()
    assert not gate.admission.has_room()
    gate.admission.return_reply()
    assert gate.admission.has_room()


def test_a_row_of_several_chunks_returns_as_many_credits() -> None:
    gate = Gate("ad", input_capacity=4).play("d0 d1 a0")
    assert gate.admission.state.credits_used == 3
    gate.hand_over()
    assert gate.admission.state.credits_used == 0


def test_rows_that_wait_for_a_source_are_let_go_when_there_are_no_credits_left() -> None:
    """Nothing else could ever return one: waiting on would be a deadlock."""
    gate = Gate("ab", input_capacity=2).play("a0 a1")
    assert gate.rows == "0a 1a" or not gate.admission.has_room()
    gate.enter()
    assert gate.inside
    gate.hand_over()
    assert gate.admission.has_room()


def test_a_chunk_waits_for_memory_while_something_is_under_way() -> None:
    gate = Gate("a", memory_bytes=100).play("a0 a1")  # 40 bytes each
    assert not gate.admission.has_room(40)
    assert gate.admission.has_room(20)
    gate.hand_over(1)
    assert gate.admission.has_room(40)


def test_a_chunk_that_can_never_fit_is_refused_and_its_number_settled() -> None:
    gate = Gate("a", memory_bytes=100).play("a0")
    gate.hand_over()
    gate.memory.set_nodes(80)  # the nodes hold on to this
    assert gate.admission.has_room(40), "waiting would be for ever"
    assert not gate.offer(1)
    assert isinstance(gate.refusals[0][1], MemoryLimitExceeded)
    gate.memory.set_nodes(0)
    gate.play("a2")
    assert gate.rows == "0a 2a"
    assert gate.ledger.missing == 0


def test_rows_that_wait_make_way_when_memory_is_short() -> None:
    gate = Gate("a", memory_bytes=100).play("a0")
    gate.hand_over()
    gate.play("a2 a3")
    assert gate.rows == "0a"
    assert not gate.admission.has_room(40)
    gate.enter()
    assert gate.rows == "0a 2a"
    gate.hand_over()
    assert gate.admission.has_room(40)


# ---- overflow --------------------------------------------------------------------------------


def test_where_rows_may_be_dropped_few_are_inside_at_a_time() -> None:
    for options in ({"overflow": Overflow.DROP_OLDEST}, {"overflow": Overflow.DROP_NEWEST}, {"max_age_ms": 1}):
        gate = Gate("a", **options).play("a0 a1 a2 a3")
        assert len(gate.inside) == ROWS_INSIDE
        gate.hand_over(1)
        assert len(gate.enter()) == 1


def test_drop_oldest_drops_what_has_not_entered() -> None:
    gate = Gate("a", overflow=Overflow.DROP_OLDEST, input_capacity=4).play("a0 a1 a2 a3")
    for sequence in (4, 5):
        assert gate.admission.has_room()
        gate.offer(sequence)
    gate.hand_over()
    gate.enter()
    assert gate.rows == "0a 1a 4a 5a"
    assert gate.ledger.dropped == 2
    assert gate.ledger.missing == 0
    assert starts(gate) == [0, 10, 40, 50]
    gate.check_books()


def test_drop_oldest_does_not_drop_what_is_inside_nor_a_flush() -> None:
    gate = Gate("a", overflow=Overflow.DROP_OLDEST, input_capacity=3).play("a0 a1 F")
    assert not gate.admission.has_room()
    assert gate.ledger.dropped == 0


def test_drop_oldest_drops_rows_that_wait_for_a_hole() -> None:
    gate = Gate("a", overflow=Overflow.DROP_OLDEST, input_capacity=4).play("a0 a1 a3 a4")
    assert gate.admission.has_room()
    gate.offer(5)
    gate.hand_over()
    gate.enter()
    assert gate.rows == "0a 1a 4a 5a"
    assert (gate.ledger.dropped, gate.ledger.missing) == (1, 1)
    assert starts(gate) == [0, 10, 40, 50]


def test_drop_newest_drops_what_comes_when_it_is_full() -> None:
    gate = Gate("a", overflow=Overflow.DROP_NEWEST, input_capacity=3).play("a0 a1 a2")
    for sequence in (3, 4):
        assert gate.admission.has_room(), "a client that may be dropped is never made to wait"
        assert gate.offer(sequence, n_frames=6)
    gate.hand_over()
    gate.play("a5")
    assert gate.rows == "0a 1a 2a 5a"
    assert (gate.ledger.accepted, gate.ledger.dropped, gate.ledger.missing) == (6, 2, 0)
    assert starts(gate) == [0, 10, 20, 42], "a dropped chunk moves the position on by its own length"
    gate.check_books()


def test_drop_newest_drops_whole_rows() -> None:
    gate = Gate("ab", overflow=Overflow.DROP_NEWEST, input_capacity=3).play("a0 b0 a1")
    gate.play("b1 a2 b2")
    assert gate.rows == "0ab"
    assert gate.ledger.dropped == 4
    gate.hand_over()
    gate.play("a3 b3")
    assert gate.rows == "0ab 3ab"
    assert starts(gate, "b") == [0, 30]
    gate.check_books()


def test_a_flush_finds_a_credit_even_where_all_are_held_by_rows_that_wait() -> None:
    """Chunks may be dropped as they come; a flush may not, so what waits has to make way for it."""
    gate = Gate("abc", overflow=Overflow.DROP_NEWEST, input_capacity=4).play("a0 b0 c0")
    gate.hand_over()
    gate.play("a1 b1 a2 b2")
    assert gate.admission.state.credits_used == 4
    assert not gate.admission.has_credit()
    gate.enter()
    assert gate.inside, "nothing is under way that could ever return a credit"
    gate.hand_over()
    assert gate.admission.has_credit()


def test_a_row_that_is_too_old_is_dropped_when_it_could_enter() -> None:
    gate = Gate("a", max_age_ms=100)
    for sequence, at in enumerate([0.0, 0.0, 1.0, 1.04, 1.15]):
        gate.offer(sequence, at=at)
    assert len(gate.enter(now=0.05)) == ROWS_INSIDE
    gate.hand_over()
    gate.enter(now=1.145)
    assert gate.rows == "0a 1a 4a" or gate.rows == "0a 1a 3a 4a"
    assert gate.ledger.dropped == 5 - len(gate.entered)
    assert starts(gate)[-1] == 40


def test_a_flush_is_never_too_old() -> None:
    gate = Gate("a", max_age_ms=1)
    gate.admission.flush(final=False)
    assert len(gate.enter(now=1e12)) == 1


# ---- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", list(Overflow))
def test_abandoning_counts_all_that_waits_and_frees_its_memory(overflow: Overflow) -> None:
    gate = Gate("abd", overflow=overflow, input_capacity=6).play("d0 a0 a2 b2 d1 b0")
    inside = sum(row.chunk_count for row in gate.inside)
    assert gate.admission.abandon() == gate.ledger.accepted - gate.ledger.dropped - inside
    assert gate.memory.used == sum(row.nbytes for row in gate.inside)
    assert gate.admission.abandon() == 0


# ---- against a naive model -------------------------------------------------------------------


class Naive:
    """The rules for BLOCK with ample credits, said as plainly as possible: every number is looped over."""

    def __init__(self, sources: str, window: int) -> None:
        self.sources, self.window = sources, window
        self.given: dict[int, dict[str, int | None]] = {}
        self.since: dict[int, int] = {}
        self.told: set[tuple[int, str]] = set()
        self.heard: set[str] = set()
        self.ended: set[str] = set()
        self.base: int | None = None
        self.next = 0
        self.now = 0
        self.first_at = 0
        self.missing = 0
        self.length = dict.fromkeys(sources, 0)
        self.at = dict.fromkeys(sources, 0)
        self.rows: list[tuple[int | None, dict[str, int]]] = []
        self.last: int | None = None

    def offer(self, number: int, source: str, n_frames: int | None) -> bool:
        if self.base is not None and (number < self.next or (number, source) in self.told):
            return False
        if self.base is None:
            self.base = self.next = number
            self.first_at = self.now
        self.told.add((number, source))
        self.heard.add(source)
        self.given.setdefault(number, {})[source] = n_frames
        self.since.setdefault(number, self.now)
        self.settle()
        return True

    def settle(self) -> None:
        while self.given and (self.complete() or len(self.given) >= self.window or self.overdue()):
            self.go()

    def complete(self) -> bool:
        row = self.given.get(self.next)
        if row is None:
            return False
        early = len(self.sources) > 1 and self.now < self.first_at + 4
        return all(s in row or s in self.ended or (s not in self.heard and not early) for s in self.sources)

    def overdue(self) -> bool:
        return any(self.now - since >= 4 for since in self.since.values())

    def go(self) -> None:
        """Let the lowest waiting row go, after each number below it."""
        lowest = min(self.given)
        while self.next <= lowest:
            row = self.given.pop(self.next, {})
            self.since.pop(self.next, None)
            placed: dict[str, int] = {}
            for source in self.sources:
                n_frames = row.get(source)
                if n_frames is not None:
                    placed[source] = self.at[source]
                    self.length[source] = n_frames
                elif source not in row and (source not in self.heard or source in self.ended):
                    continue
                elif source not in row:
                    self.missing += 1
                self.at[source] += self.length[source]
            if placed:
                self.rows.append((self.next, placed))
                self.last = self.next
            self.next += 1

    def flush(self) -> None:
        while self.given:
            self.go()
        self.rows.append((None if self.last is None else -1 - self.last, {}))


EVENT = st.one_of(
    st.tuples(st.just("offer"), st.sampled_from("abc"), st.integers(-6, 12), st.integers(0, 9)),
    st.tuples(st.just("refuse"), st.sampled_from("abc"), st.integers(-3, 6)),
    st.tuples(st.just("time"), st.integers(1, 5)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("end"), st.sampled_from("abc")),
)


@example("ab", 2, [("time", 2), ("offer", "a", 0, 0), ("time", 2), ("flush",), ("offer", "a", 0, 0), ("time", 2)])
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["a", "ab", "abc"]), st.integers(1, 6), st.lists(EVENT, max_size=60))
def test_agrees_with_the_naive_model(sources: str, window: int, events: list[Any]) -> None:
    """Rows, positions, refusals and missing numbers, for any schedule."""
    gate, naive = Gate(sources, reorder_window=window), Naive(sources, window)
    for event in events:
        match event:
            case "offer", source, offset, n_frames if source in sources:
                number = max(naive.next + offset, 0)
                if source not in naive.ended:
                    assert gate.offer(number, source, n_frames) == naive.offer(number, source, n_frames)
            case "refuse", source, offset if source in sources:
                number = max(naive.next + offset, 0)
                if source not in naive.ended:
                    gate.admission.refuse(source, number)
                    naive.offer(number, source, None)
            case "time", steps:
                for _ in range(steps):
                    gate.admission.advance(0.05)
                    naive.now += 1
                    naive.settle()
            case ("flush",):
                gate.admission.flush(final=False)
                naive.flush()
            case "end", source if source in sources:
                gate.admission.end_source(source)
                naive.ended.add(source)
                naive.settle()
        gate.enter()
        gate.check_books()
    found = [
        (None if row.sequence is None else -1 - row.sequence, {})
        if row.flush
        else (row.sequence, {source: items[0].start for source, items in row.items.items()})
        for row in gate.entered
    ]
    assert found == naive.rows
    assert gate.ledger.missing == naive.missing


# ---- whatever happens ------------------------------------------------------------------------


class AdmissionMachine(RuleBasedStateMachine):
    """Any client, consumer and policy: the books balance, credits are bounded, and it never gets stuck."""

    @initialize(
        sources=st.sampled_from(["a", "ab", "abc", "ad", "abd"]),
        capacity=st.integers(1, 8),
        window=st.integers(1, 8),
        overflow=st.sampled_from(Overflow),
        max_age_ms=st.sampled_from([0, 0, 100]),
        memory_bytes=st.sampled_from([AMPLE, 100, 250]),
    )
    def open(
        self, sources: str, capacity: int, window: int, overflow: Overflow, max_age_ms: int, memory_bytes: int
    ) -> None:
        self.sources = sources
        self.gate = Gate(
            sources,
            memory_bytes,
            input_capacity=capacity,
            reorder_window=window,
            overflow=overflow,
            max_age_ms=max_age_ms,
        )
        self.overflow = overflow
        self.replies = 0
        self.dice = random.Random(7)
        self.now = 0.0

    def enter(self) -> None:
        self.gate.enter(self.now)

    @property
    def under_way(self) -> bool:
        return bool(self.gate.inside or self.replies)

    def reply(self) -> None:
        self.gate.admission.take_reply()
        self.replies += 1

    @rule(which=st.integers(0, 3), offset=st.integers(-4, 9), n_frames=st.integers(0, 20))
    def offer(self, which: int, offset: int, n_frames: int) -> None:
        gate, source = self.gate, self.sources[which % len(self.sources)]
        number = max((gate.admission.state.next_sequence or 0) + offset, 0)
        nbytes = 8 if source == "d" else 4 * n_frames
        for _ in range(99):
            if gate.admission.has_room(nbytes):
                break
            self.enter()
            if self.under_way:
                return  # the client waits: something is under way, and its return will wake it
        else:
            raise AssertionError("no room, nothing under way, and asking again gets nowhere")
        if not gate.offer(number, source, n_frames, at=self.now):
            self.reply()
        self.enter()

    @rule(which=st.integers(0, 3), offset=st.integers(-2, 5))
    def refuse(self, which: int, offset: int) -> None:
        gate = self.gate
        if gate.admission.has_room():
            number = max((gate.admission.state.next_sequence or 0) + offset, 0)
            gate.admission.refuse(self.sources[which % len(self.sources)], number)
            self.reply()
        self.enter()

    @rule()
    def flush(self) -> None:
        gate = self.gate
        for _ in range(99):
            if gate.admission.has_credit():
                break
            self.enter()
            if self.under_way:
                return
        else:
            raise AssertionError("no credit for a flush, and nothing under way")
        gate.admission.flush(final=False)
        self.enter()

    @rule(rows=st.integers(1, 4))
    def receive(self, rows: int) -> None:
        self.gate.hand_over(rows)
        self.enter()

    @precondition(lambda self: self.replies)
    @rule()
    def receive_reply(self) -> None:
        self.replies -= 1
        self.gate.admission.return_reply()
        self.enter()

    @rule(steps=st.integers(1, 6))
    def wait(self, steps: int) -> None:
        self.now += 0.05 * steps
        self.gate.admission.advance(0.05 * steps)
        self.enter()

    @rule(nbytes=st.sampled_from([0, 60, 300]))
    def nodes_hold(self, nbytes: int) -> None:
        self.gate.memory.set_nodes(nbytes)

    @invariant()
    def credits_are_bounded(self) -> None:
        gate, state = self.gate, self.gate.admission.state
        most = gate.admission.capacity * (2 if self.overflow is Overflow.DROP_NEWEST else 1)
        assert 0 <= state.credits_used <= most
        assert state.rows_inside == len(gate.inside)
        assert state.rows_held < max(gate.admission.capacity, 1)

    @invariant()
    def books_balance(self) -> None:
        self.gate.replies = (None,) * self.replies  # type: ignore[assignment]
        self.gate.check_books()

    @invariant()
    def rows_enter_in_order(self) -> None:
        plain = [row.sequence for row in self.gate.entered if not row.flush]
        assert plain == sorted(set(plain))

    def teardown(self) -> None:
        """When all has been flushed and handed over, every credit and every byte is back."""
        if not hasattr(self, "gate"):
            return
        gate = self.gate
        for _ in range(1_000):
            gate.hand_over()
            while self.replies:
                self.receive_reply()
            self.enter()
            if not gate.inside and gate.admission.has_credit():
                break
        else:
            raise AssertionError("it never comes to rest")
        gate.admission.flush(final=True)
        while gate.enter(self.now) or gate.inside:
            gate.hand_over()
        self.books_balance()
        state = gate.admission.state
        assert (state.credits_used, state.rows_held, state.rows_ready, state.rows_inside) == (0, 0, 0, 0)
        assert gate.memory.buffers == 0


TestAdmissionMachine = AdmissionMachine.TestCase
TestAdmissionMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
