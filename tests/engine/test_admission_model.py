"""Admission compared with a naive model of its rules, and as a state machine that must never get stuck."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.limits import Overflow
from engine.pipeline.row import Row
from nodes.contract import Audio
from tests.engine.admission_script import AMPLE, Gate

# ---- against a naive model -------------------------------------------------------------------


class Naive:
    """The rules for BLOCK with ample credits, in their plainest form: a loop over every number."""

    def __init__(self, sources: str, window: int) -> None:
        self.sources, self.window = sources, window
        self.given: dict[int, dict[str, int | None]] = {}
        self.since: dict[int, int] = {}
        self.seen: set[tuple[int, str]] = set()
        self.heard: set[str] = set()
        self.ended: set[str] = set()
        self.spoken: set[str] = set()
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
        if self.base is not None and (number < self.next or (number, source) in self.seen):
            return False
        if self.base is None:
            self.base = self.next = number
            self.first_at = self.now
        self.seen.add((number, source))
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
        """Enter the lowest waiting row, after settling each number below it."""
        lowest = min(self.given)
        while self.next <= lowest:
            row = self.given.pop(self.next, {})
            self.since.pop(self.next, None)
            placed: dict[str, int] = {}
            stand = max(self.at.values())
            for source in self.sources:
                if row.get(source) is not None and source not in self.spoken:
                    self.spoken.add(source)
                    self.at[source] = stand
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
@settings(max_examples=300)
@given(st.sampled_from(["a", "ab", "abc"]), st.integers(1, 6), st.lists(EVENT, max_size=60))
def test_agrees_with_the_naive_model(sources: str, window: int, events: list[Any]) -> None:
    """Rows, positions, refusals and missing numbers are equal for any schedule."""
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


# ---- the straight path against the general one ------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("offer"), st.sampled_from([0, 0, 0, 0, 0, 1, 2, -1, -2, 70_000]), st.integers(0, 20)),
    st.tuples(st.just("refuse"), st.integers(-1, 2)),
    st.tuples(st.just("take back"), st.integers(1, 3)),
    st.tuples(st.just("time"), st.integers(1, 6)),
    st.tuples(st.just("nodes hold"), st.sampled_from([0, 60, 300])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("end")),
)


def look(gate: Gate) -> tuple[Any, ...]:
    """Return the visible state of a gate with source a."""
    rows = [
        (row.sequence, row.flush or row.received_at, row.ended, row.chunk_count, row.nbytes, starts(row))
        for row in (*gate.entered, *gate.admission.ready)
    ]
    refused = [(what, type(error), str(error)) for what, error in gate.refusals]
    return rows, gate.ledger, gate.memory, gate.admission.state, refused, gate.admission._last


def starts(row: Row) -> list[tuple[int, int]]:
    return [(item.start, len(item.frames)) for item in row.items.get("a", ()) if isinstance(item, Audio)]


@example(Overflow.DROP_NEWEST, 0, AMPLE, [("offer", 0, 9)] * 9)
@example(Overflow.BLOCK, 0, 100, [("offer", 0, 9), ("nodes hold", 300), ("take back", 1), ("offer", 0, 9)])
@example(Overflow.BLOCK, 0, AMPLE, [("offer", 0, 9), ("offer", 0, 9), ("offer", -2, 9)])
@settings(max_examples=150)
@given(
    st.sampled_from(Overflow),
    st.sampled_from([0, 0, 100]),
    st.sampled_from([AMPLE, 100, 250]),
    st.lists(STEP, min_size=10, max_size=60),
)
def test_to_go_straight_makes_no_difference(
    overflow: Overflow, max_age_ms: int, memory_bytes: int, steps: list[Any]
) -> None:
    """Rows, ledger, memory, credits and refusals are equal after each event, for any schedule of one source."""
    now = 0.0

    def play(gate: Gate, step: Any) -> None:
        number = max((gate.admission.state.next_sequence or 0) + step[1], 0) if len(step) > 1 else 0
        match step[0]:
            case "offer":
                if gate.admission.has_room(4 * step[2]):
                    gate.offer(number, "a", step[2], at=now)
            case "refuse":
                gate.admission.refuse("a", number)
            case "take back":
                gate.hand_over(step[1])
            case "time":
                gate.admission.advance(0.05 * step[1])
            case "nodes hold":
                gate.memory.set_nodes(step[1])
            case "flush":
                gate.admission.flush(final=False)
            case "end":
                gate.admission.end_source("a")
        gate.enter(now)

    options = {"input_capacity": 6, "reorder_window": 3, "overflow": overflow, "max_age_ms": max_age_ms}
    straight, general = (Gate("a", memory_bytes, **options) for _ in range(2))
    general.admission._is_direct = False
    for step in steps:
        now += 0.05 * step[1] if step[0] == "time" else 0.0
        play(straight, step)
        play(general, step)
        assert look(straight) == look(general)


# ---- whatever happens ------------------------------------------------------------------------


class AdmissionMachine(RuleBasedStateMachine):
    """For any client, consumer and policy, the accounts balance, credits are bounded, and nothing gets stuck."""

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
                return  # the client waits: the return of a row or reply will wake it
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
        """Check that every credit and byte is back after a flush, once all rows have been handed over."""
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
TestAdmissionMachine.settings = settings(max_examples=150, stateful_step_count=40)
