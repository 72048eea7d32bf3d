"""Credits, memory and overflow: when admission takes a chunk, makes its sender wait, or drops."""

from __future__ import annotations

import pytest

from engine.errors import MemoryLimitExceeded
from engine.limits import Overflow
from engine.session.admission import ROWS_INSIDE
from tests.engine.admission_script import Gate, starts

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
    """Nothing else could ever return a credit, so to wait longer would be a deadlock."""
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
    gate.memory.set_nodes(80)  # held by the nodes
    assert gate.admission.has_room(40), "the client would wait for ever"
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
    assert starts(gate) == [0, 10, 20, 42], "a dropped chunk advances the position by its own length"
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
    """Chunks may be dropped on arrival, but a flush may not, so waiting rows must make room for it."""
    gate = Gate("abc", overflow=Overflow.DROP_NEWEST, input_capacity=4).play("a0 b0 c0")
    gate.hand_over()
    gate.play("a1 b1 a2 b2")
    assert gate.admission.state.credits_used == 4
    assert not gate.admission.has_credit()
    gate.enter()
    assert gate.inside, "no row is under way that could return a credit"
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
