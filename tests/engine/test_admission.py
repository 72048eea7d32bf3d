"""Admission: the order and positions of entering chunks, as tables in the language of `admission_script`."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceTooFarAhead
from engine.session.source_state import MAX_JUMP
from tests.engine.admission_script import Gate, starts

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
        "LateChunk",  # forgotten after 88 rows
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
    """4,000 jumps skip 262 million numbers; a loop over them would take minutes."""
    gate = Gate("a", reorder_window=1)
    for jump in range(4_000):
        assert gate.offer(jump * (MAX_JUMP + 1))
        gate.enter()
        gate.hand_over()
    assert gate.ledger.missing == 3_999 * MAX_JUMP


@pytest.mark.parametrize("sources", ["a", "ab", "ad"])
def test_a_client_that_numbers_every_chunk_0_is_told(sources: str) -> None:
    """The same holds while row 0 still waits for another source, and for a source of data only."""
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
    """With fewer credits, no row could ever be complete."""
    gate = Gate(sources, input_capacity=1)
    for source in reversed(sources):
        assert gate.admission.has_room()
        assert gate.offer(0, source)
    assert len(gate.enter()) == 1
    assert gate.rows == "0abc" + "d" * ("d" in sources)


# ---- positions -------------------------------------------------------------------------------


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


def test_a_source_that_speaks_late_begins_where_the_others_stand() -> None:
    gate = Gate("ab")
    for sequence in range(3):
        gate.offer(sequence, "a", 320, 16_000)
    gate.play("....")  # b has had its first 200 ms
    gate.offer(3, "b", 160, 8_000)
    gate.offer(3, "a", 320, 16_000)
    gate.offer(4, "b", 160, 8_000)
    gate.offer(4, "a", 320, 16_000)
    gate.enter()
    assert starts(gate, "a") == [0, 320, 640, 960, 1280]
    assert starts(gate, "b") == [480, 640]  # the moment of a's 960 and 1280


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
