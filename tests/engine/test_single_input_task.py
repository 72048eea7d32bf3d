"""`SingleInputTask` and `NodeTask` behave the same: equal results, errors, accounts and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, NodeFailed, SessionClosed
from engine.limits import ResourceLimits
from engine.manifest import Manifest
from engine.messages import NodeFigures, Result, SessionMetrics
from engine.pipeline.node_task import NodeTask
from engine.pipeline.scheduler import Scheduler
from engine.pipeline.single_input_task import SingleInputTask, make_task
from engine.session import Event
from nodes.contract import Audio, Item
from tests.engine.harness import (
    Hear,
    Kinds,
    Pass,
    Threaded,
    chunk,
    note,
    opened,
    receive_all,
    run_virtually,
    wire,
)
from tests.engine.test_random_dags import Relay, Witness, manifests

STEPS = st.lists(st.sampled_from(["audio", "audio", "data", "flush"]), max_size=12)
CHAIN = wire("a > b > c, a > d", b=("Picky", {"every": 2}), c=("Copies", {"times": 3}))
FATAL = wire("a > b > c", b=("Bomb", {"at": 2}))


@example(CHAIN, ["audio", "data", "audio", "flush", "data"], 100_000)
@example(CHAIN, ["audio", "data", "audio", "flush", "data"], 600)
@example(FATAL, ["audio"] * 4, 100_000)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(), STEPS, st.sampled_from([600, 2_000, 100_000]))
def test_both_ways_come_to_the_same(manifest: Manifest, steps: Sequence[str], max_memory_bytes: int) -> None:
    limits = ResourceLimits(max_memory_bytes=max_memory_bytes)
    assert summary(manifest, steps, limits, plain=True) == summary(manifest, steps, limits, plain=False)


def summary(manifest: Manifest, steps: Sequence[str], limits: ResourceLimits, *, plain: bool) -> list[Any]:
    """Return a session's events, without times and generated names."""
    events: list[Event] = []

    async def go() -> None:
        async with opened(manifest, Kinds(Relay, Witness), limits=limits) as session:  # type: ignore[arg-type]
            kinds = {type(task) for task in session.pipeline.tasks}
            assert plain or kinds == {NodeTask}
            try:
                for sequence, step in enumerate(steps):
                    if step == "flush":
                        session.try_flush()
                    else:
                        for source in session.source_ids:
                            session.offer((chunk if step == "audio" else note)(sequence, source), at_once=True)
                while not session.try_flush(final=True):
                    events.append(await anext(session))
            except SessionClosed:
                assert session.failure is not None
            events.extend(await receive_all(session))

    ways = mock.patch("engine.pipeline.running.make_task", make_task if plain else NodeTask)
    all_at_once = mock.patch.object(Scheduler, "defer", Scheduler.run)  # the nodes' own tasks would run in any order
    with mock.patch("engine.pipeline.scheduler.MAX_RUN_S", 60.0), all_at_once, ways:
        run_virtually(go)
    return [timeless(event) for event in events]


def timeless(event: Event) -> Any:
    match event:
        case Result():
            items = {node: [content(item) for item in items] for node, items in event.items.items()}
            errors = [timeless(error) for error in event.errors]
            outcomes = [(outcome.node_id, outcome.status) for outcome in event.nodes]
            return event.sequence, event.flush, items, errors, event.status, outcomes, event.memory_bytes, counts(event)
        case SessionMetrics():
            ledger = (event.received, event.accepted, event.delivered, event.rejected, event.refused, event.cancelled)
            return ledger, event.total_samples, event.peak_memory_bytes, event.final, counts(event)
        case EngineError():
            cause = type(event.__cause__) if isinstance(event, NodeFailed) else None
            return type(event), str(event), event.node_id, event.sequence, event.context, cause
    raise AssertionError(event)


def content(item: Item) -> Any:
    return (item.start, item.frames.tobytes()) if isinstance(item, Audio) else item


def counts(event: Result | SessionMetrics) -> Any:
    def of(figures: NodeFigures) -> Any:
        return figures.chunks, figures.samples, figures.memory_bytes

    return {node: of(figures) for node, figures in event.figures.items()}


def test_a_usual_node_goes_its_own_way_and_the_others_do_not() -> None:
    manifest = wire("a > b > c > d, a > d, a > e, a > f", c="Hear", d="Meet", e="Threaded", f="Fork")
    ways: dict[str, bool] = {}

    async def go() -> None:
        async with opened(manifest, Kinds(Pass, Hear, Threaded)) as session:
            ways.update({task.planned.id: isinstance(task, SingleInputTask) for task in session.pipeline.tasks})
            session.cancel()

    run_virtually(go)
    assert ways == {"a": True, "b": True, "c": True, "d": False, "e": False, "f": True}
