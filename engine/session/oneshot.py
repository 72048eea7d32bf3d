"""Unary execution: feed a session all inputs, close it, and join its results.

Long audio is cut into blocks of one second, so that it never holds the event loop; blocks are sent with backpressure.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from time import perf_counter

import attrs
import trio

from engine.errors import EngineError, SamplesLimitExceeded, SessionClosed, TimeLimitExceeded
from engine.limits import ResourceLimits, SessionOptions
from engine.manifest import Manifest
from engine.messages import Chunk, NodeOutcome, NodeStatus, Output, Result, SessionMetrics, Status
from engine.pipeline.row import items_bytes
from engine.runtime.engine import Engine
from engine.session.opening import open_session
from engine.session.results import join_items
from engine.session.session import Session
from nodes.contract import Audio, Data, Item

__all__ = ["BLOCK_S", "execute"]

BLOCK_S = 1
BLOCKS_UNDER_WAY = 32


async def execute(
    manifest: Manifest,
    audio: Mapping[str, Audio],
    data: Mapping[str, Data],
    *,
    engine: Engine,
    limits: ResourceLimits | None = None,
    parse_ms: float = 0.0,
) -> Result:
    """Run a pipeline over whole inputs.

    Args:
      manifest: The pipeline.
      audio: Source id → audio of any length; "" names the only source.
      data: Source id → data; it enters with the first row.
      engine: The engine to run on; its sweep must be running.
      limits: Limits of the whole call.
      parse_ms: Time spent parsing the inputs, for the metrics.

    Returns:
      The joined outputs of all nodes whose output is returned, and per-node figures of the whole call.

    Raises:
      EngineError: the first error that the session would have answered in band or ended with.
    """
    began = perf_counter()
    granted = (limits or ResourceLimits()).clamped(engine.maxima)
    _check_samples(audio, granted.max_audio_samples)
    with trio.move_on_after(granted.max_timeout_ms / 1000):
        room = SessionOptions(input_capacity=len(data) + BLOCKS_UNDER_WAY)  # all data may wait for audio
        async with open_session(manifest, engine=engine, limits=limits, options=room) as session:
            session.accounts.hold(sum(each.frames.nbytes for each in audio.values()))
            collected = _Collected()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, session, audio, data)
                error = await collected.receive_all(session)
                nursery.cancel_scope.cancel()
            if error is not None:
                raise error
            return collected.result(session, (perf_counter() - began) * 1e3 + parse_ms, parse_ms)
    raise TimeLimitExceeded(
        f"the call took longer than its limit of {granted.max_timeout_ms} ms",
        context={"limit_ms": granted.max_timeout_ms, "value_ms": (perf_counter() - began) * 1e3},
    )


def _check_samples(audio: Mapping[str, Audio], limit: int) -> None:
    for source, each in audio.items():
        if each.samples > limit:
            raise SamplesLimitExceeded(
                f"the audio for {source!r} has {each.samples} samples; the limit is {limit}",
                context={"value": each.samples, "limit": limit},
            )


async def _feed(session: Session, audio: Mapping[str, Audio], data: Mapping[str, Data]) -> None:
    """Send all inputs and close the session; return early, without an error, if the session ends."""
    if "" not in audio and "" not in data:
        for source in session.source_ids:
            if source not in audio and source not in data:
                session.end_source(source)
    blocks = {source: _blocks(each) for source, each in audio.items()}
    with contextlib.suppress(SessionClosed):
        for source, item in data.items():
            await session.send(Chunk(item, 0, source))
            if source not in blocks:
                session.end_source(source)
        for sequence in itertools.count():
            for source in list(blocks):
                if (block := next(blocks[source], None)) is None:
                    del blocks[source]
                    session.end_source(source)
                else:
                    await session.send(Chunk(block, sequence + (source in data), source))
            if not blocks:
                break
        await session.close()


def _blocks(audio: Audio) -> Iterator[Audio]:
    step = audio.sample_rate * BLOCK_S
    for start in range(0, max(len(audio.frames), 1), step):
        yield Audio(audio.frames[start : start + step], audio.sample_rate)


@attrs.define
class _Collected:
    """All items and the final metrics of a session."""

    items: dict[str, list[Item]] = attrs.field(factory=dict)
    metrics: SessionMetrics | None = None
    cpu_ms: float = 0.0

    async def receive_all(self, session: Session) -> EngineError | None:
        """Receive all events, or up to the first error; return that error or the session's failure."""
        while (event := await session.receive()) is not None:
            if isinstance(event, EngineError):
                return event
            if isinstance(event, SessionMetrics):
                self.metrics = event
                continue
            self.cpu_ms += event.cpu_ms
            try:
                session.accounts.hold(sum(items_bytes(items) for items in event.items.values()))
            except EngineError as error:
                return error
            for node, items in event.items.items():
                self.items.setdefault(node, []).extend(items)
        return session.failure

    def result(self, session: Session, wall_ms: float, parse_ms: float) -> Result:
        tasks = {task.planned.id: task for task in session.pipeline.tasks}
        outputs: dict[str, Output] = {node: join_items(tasks[node], items) for node, items in self.items.items()}
        assert self.metrics is not None
        figures = self.metrics.figures
        nodes = [
            NodeOutcome(
                task.planned.id,
                NodeStatus.SUCCESS if figures[task.planned.id].chunks else NodeStatus.SKIPPED,
                metadata=task.planned.metadata,
            )
            for task in session.pipeline.tasks
        ]
        whole = all(node.status is NodeStatus.SUCCESS for node in nodes)
        return Result(
            sequence=None,
            flush=True,
            outputs=outputs,
            status=Status.SUCCESS if whole else Status.PARTIAL_SUCCESS,
            nodes=nodes,
            figures=figures,
            wall_ms=wall_ms,
            cpu_ms=self.cpu_ms,
            memory_bytes=self.metrics.peak_memory_bytes,
            parse_ms=parse_ms,
        )
