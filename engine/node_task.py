"""One node at work: a trio task that takes one packet from each inlet for every row, and gives one to each outlet.

Nothing is made per chunk but the packet and the mark: no task, cancel scope, thread hop (of an inline node) or lock.
An inlet is tried without waiting first, and the task yields fairly when it has not waited for some rows.
"""

from __future__ import annotations

import json
import math
import traceback
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

import attrs
import trio

from engine.errors import EngineError, MemoryLimitExceeded, NodeFailed, NodeRefused, TimeLimitExceeded
from engine.graph import PlannedNode
from engine.packet import NodeFigures, NodeStatus
from engine.row import Mark, Packet, Row, items_bytes
from engine.watchdog import Holds
from nodes.contract import Audio, Data, InvalidInput, Item, Join, Kind, To

if TYPE_CHECKING:
    from engine.pipeline import Pipeline

__all__ = ["BATCH_ROWS", "FAIR_ROWS", "NodeTask"]

FAIR_ROWS = 4
"""Rows that a node may do in one go before others get their turn."""

BATCH_ROWS = 64
"""Rows that one thread call may be asked to do."""

Given = Sequence[Item] | dict[str, Sequence[Item]]

Done = tuple[list[Item | To], EngineError | None, float, float, float]
"""What a node made of a row, why it refused, when it began and ended, and the CPU time; seconds."""

_TYPES: Mapping[Kind, tuple[type[Item], ...]] = {Kind.AUDIO: (Audio,), Kind.DATA: (Data,), Kind.BOTH: (Audio, Data)}


class NodeTask:
    """A node with its inlets, outlets and figures.

    Attributes:
      planned: the node in its place.
      inlets: one channel per inbound edge, in the order of the connections; of a source, the session's.
      outlets: one channel per outbound edge.
      downstreams: for each of these the id of the node that it leads to.
      abandoned: a thread call of it was given up; see `engine.placement`.
    """

    def __init__(self, planned: PlannedNode, pipeline: Pipeline) -> None:
        self.planned = planned
        self.inlets: list[trio.MemoryReceiveChannel[Packet]] = []
        self.outlets: list[trio.MemorySendChannel[Packet]] = []
        self.downstreams: list[str] = []
        self.abandoned = False
        self._pipeline = pipeline
        self._node = planned.node
        self._joins = isinstance(planned.node, Join)
        self._told_ended: set[str] = set()
        self._upstreams = [pipeline.plan.nodes[edge.source].id for edge in planned.inbound] or [""]
        self._filters = [_TYPES[edge.kinds] if edge.filters else None for edge in planned.inbound] or [None]
        self._gives = _TYPES[planned.node.gives]
        self._streak = 0
        self._away = False
        self._hold_limit = math.inf if self._node.placement == "thread" else pipeline.watchdog.limit_seconds
        self._holds = Holds()
        self._memory, self._delay, self._custom = 0, 0.0, ""
        self._run = self._cpu = self._queued = self._max_run = 0.0
        self._rows = self._samples = 0

    async def run(self) -> None:
        """Do row after row, until the session's nursery is cancelled or this node has failed."""
        if self._node.placement == "thread":
            await self._run_in_thread()
            return
        single = self.inlets[0] if len(self.inlets) == 1 else None
        while True:
            packets = [await self._receive(single)] if single is not None else await self._receive_all()
            given = self._gather(packets)
            try:
                done = self._work(packets[0].row, given)
            except EngineError as error:
                self._pipeline.fail(packets[0].row, error)
                return
            if not self._settle(packets, given, done):
                return

    async def _run_in_thread(self) -> None:
        """The same, with as many rows to a thread call as wait."""
        waiting: deque[tuple[list[Packet], Given]] = deque()
        while True:
            while not waiting or (len(waiting) < BATCH_ROWS and self._has_next()):
                packets = await self._receive_all()
                waiting.append((packets, self._gather(packets)))
            work = [partial(self._work, packets[0].row, given) for packets, given in waiting]
            self._away = True
            outcomes = await self._pipeline.threads.run(work, self)
            self._away = False
            for outcome in outcomes:
                packets, given = waiting.popleft()
                try:
                    done = outcome.unwrap()
                except EngineError as error:
                    self._pipeline.fail(packets[0].row, error)
                    return
                if not self._settle(packets, given, done):
                    return

    def _settle(self, packets: list[Packet], given: Given, done: Done) -> bool:
        """Account for a row that has been done and pass it on; False if it took too long, and the node has failed."""
        made, refusal, began, ended, cpu = done
        row = packets[0].row
        queued = began - (packets[0].sent_at if len(packets) == 1 else max(each.sent_at for each in packets))
        self._account(row, given, refusal, ended - began, cpu, queued)
        for packet in packets:
            packet.readers -= 1
            if not packet.readers:
                self._pipeline.memory.buffers -= packet.nbytes
        if ended - began > self._pipeline.timeout_seconds:
            self._pipeline.fail(row, self._too_slow(row, ended - began))
            return False
        self._pass_on(row, made, ended)
        return True

    async def _receive_all(self) -> list[Packet]:
        return [await self._receive(inlet) for inlet in self.inlets]

    def _has_next(self) -> bool:
        return all(inlet.statistics().current_buffer_used for inlet in self.inlets)

    async def _receive(self, inlet: trio.MemoryReceiveChannel[Packet]) -> Packet:
        try:
            packet = inlet.receive_nowait()
        except trio.WouldBlock:
            self._streak = 0
            return await inlet.receive()
        self._streak += 1
        if self._streak >= FAIR_ROWS:
            self._streak = 0
            await trio.lowlevel.checkpoint()
        return packet

    def _gather(self, packets: list[Packet]) -> Given:
        """What the node is to see of a row: items that its edges carry."""
        if self._joins:
            return {
                upstream: _only(packet.items, kinds)
                for upstream, packet, kinds in zip(self._upstreams, packets, self._filters, strict=True)
            }
        if len(packets) == 1:
            return _only(packets[0].items, self._filters[0])
        return [
            item for packet, kinds in zip(packets, self._filters, strict=True) for item in _only(packet.items, kinds)
        ]

    def _work(self, row: Row, given: Given) -> Done:
        """Run the node on what a row brings; in a thread, if that is the node's place.

        Raises:
          NodeFailed: the node raised something else than `InvalidInput`, or gave what it does not give.
        """
        began, cpu = perf_counter(), thread_time()
        node = self._node
        made: list[Item | To] = []
        refusal: InvalidInput | None = None
        calls: Sequence[Any] = given if not isinstance(given, dict) else (given,) if any(given.values()) else ()
        try:
            if row.ended:
                self._tell_ended(row)
            for each in calls:
                try:
                    made.extend(node.process(each))
                except InvalidInput as error:
                    refusal = refusal or error
            if row.flush:
                made.extend(node.finish())
                self._told_ended.clear()
            for item in made:
                if not isinstance(item, self._gives):
                    self._require_address(item)
        except Exception as error:  # whatever a node raises is the node's failure, reported with its stack trace
            raise self.failure("failed", error, row.sequence, given) from error
        refused = None if refusal is None else self._refusal(row, given, refusal)
        return made, refused, began, perf_counter(), thread_time() - cpu

    def _tell_ended(self, row: Row) -> None:
        """Tell a `Join` once, until all finish, of each upstream node to which no source gives anything any more."""
        if isinstance(self._node, Join):
            for edge in self.planned.inbound:
                upstream = self._pipeline.plan.nodes[edge.source]
                if upstream.origins <= row.ended and upstream.id not in self._told_ended:
                    self._told_ended.add(upstream.id)
                    self._node.ended(upstream.id)

    def _require_address(self, made: object) -> None:
        if not (self._node.routes and isinstance(made, To) and isinstance(made.item, self._gives)):
            raise TypeError(f"gave {made!r:.80}, but it gives {self._node.gives}")
        if made.target not in self.downstreams:
            there = ", ".join(map(repr, self.downstreams)) or "nowhere"
            raise ValueError(f"gave an item to {made.target!r}, but it leads to {there}")

    def _account(
        self, row: Row, given: Given, refusal: EngineError | None, run: float, cpu: float, queued: float
    ) -> None:
        """Keep the row's mark and the session's figures."""
        samples = 0
        items = _all(given)
        for item in items:
            if type(item) is Audio:
                samples += item.frames.size
        status = NodeStatus.SUCCESS if items or row.flush else NodeStatus.SKIPPED
        if refusal is not None:
            status = NodeStatus.FAILED
            row.rejections.append(refusal)
        row.marks[self.planned.index] = Mark(status, run, cpu, queued, samples)
        if status is not NodeStatus.SKIPPED:
            self._rows += bool(items)
            self._run += run
            self._cpu += cpu
            self._queued += queued
            self._samples += samples
            if run > self._max_run:
                self._max_run = run
            if run > self._hold_limit:
                self._holds.note(run * 1e3)
                self._pipeline.watchdog.note(self.planned.id, self.planned.node_type, run, cpu)

    def _pass_on(self, row: Row, given: list[Item | To], now: float) -> None:
        """Give every outlet its packet, the session its outputs, and the row its end."""
        memory = self._pipeline.memory
        made: list[Item] = _without_address(given) if self._node.routes else given  # type: ignore[assignment]
        nbytes = items_bytes(made) if made else 0
        if nbytes and not memory.fits(nbytes):
            row.rejections.append(self._too_large(row, nbytes))
            given, made, nbytes = [], [], 0
        if self._node.routes:
            self._share_out(row, given, now)
        elif self.outlets:
            memory.add(nbytes)
            packet = Packet(row, made, now, nbytes, len(self.outlets))
            for outlet in self.outlets:
                outlet.send_nowait(packet)
        if self.planned.is_output and made:
            memory.add(nbytes)
            row.nbytes += nbytes
            row.outputs[self.planned.id] = made
        if not self.outlets:
            self._pipeline.sink_done(row)

    def _share_out(self, row: Row, given: list[Item | To], now: float) -> None:
        """Give every outlet a packet of its own, with what is for all and what is for its node alone."""
        for outlet, downstream in zip(self.outlets, self.downstreams, strict=True):
            share = _without_address(each for each in given if not isinstance(each, To) or each.target == downstream)
            nbytes = items_bytes(share)
            self._pipeline.memory.add(nbytes)
            outlet.send_nowait(Packet(row, share, now, nbytes, 1))

    def close(self) -> None:
        """Close the node. What it raises then is its own affair, and no reason to leave others open."""
        self._node.close()

    def figures(self) -> NodeFigures:
        """What this node has cost since the session began."""
        return NodeFigures(
            self._run * 1e3,
            self._cpu * 1e3,
            self._queued * 1e3,
            self._max_run * 1e3,
            self._rows,
            self._samples,
            self.memory_bytes(),
            self.custom_json(),
        )

    # What the node tells of itself. If it raises then, it has failed, as it has anywhere else. While a thread is at
    # work on it, it is not asked: what it told last stands.

    def memory_bytes(self) -> int:
        """Bytes that the node says it holds."""
        if not self._away:
            try:
                self._memory = self._node.memory_bytes
            except Exception as error:
                self._pipeline.fail_now(self.failure("cannot tell its memory", error))
        return self._memory

    def delay_seconds(self) -> float:
        """By how much the node says that its output lags its input."""
        if not self._away:
            try:
                self._delay = self._node.delay
            except Exception as error:
                self._pipeline.fail_now(self.failure("cannot tell its delay", error))
        return self._delay

    def custom_json(self) -> str:
        """The node's own figures as JSON text, "" when it has none."""
        if not self._away:
            try:
                self._custom = self._custom_text()
            except Exception as error:
                self._pipeline.fail_now(self.failure("cannot tell its figures", error))
        return self._custom

    def _custom_text(self) -> str:
        custom = dict(self._node.custom_metrics())
        if self._holds.count:
            custom["event_loop_holds"] = attrs.asdict(self._holds)
        return json.dumps(custom, default=str, allow_nan=False) if custom else ""

    # Errors, with their facts

    def _context(self, given: Given | None) -> dict[str, object]:
        facts: dict[str, object] = {"node_type": self.planned.node_type, "params": dict(self.planned.params)}
        return facts if given is None else {**facts, "inputs": [_words(item) for item in _all(given)]}

    def _refusal(self, row: Row, given: Given, error: InvalidInput) -> NodeRefused:
        return NodeRefused(
            f"node {self.planned.id!r} ({self.planned.node_type}) refused this: {error}",
            node_id=self.planned.id,
            sequence=row.sequence,
            context=self._context(given),
        )

    def failure(
        self, what: str, error: Exception, sequence: int | None = None, given: Given | None = None
    ) -> NodeFailed:
        """The node has failed: at `what`, with which error, over which row and what that brought."""
        return NodeFailed(
            f"node {self.planned.id!r} ({self.planned.node_type}) {what}: {type(error).__name__}: {error}",
            node_id=self.planned.id,
            sequence=sequence,
            context=self._context(given),
            stack_trace="".join(traceback.format_exception(error)),
        )

    def _too_large(self, row: Row, nbytes: int) -> MemoryLimitExceeded:
        memory = self._pipeline.memory
        return MemoryLimitExceeded(
            f"{nbytes} bytes from node {self.planned.id!r} do not fit: {memory.used} of {memory.limit} accounted"
            " bytes are in use",
            node_id=self.planned.id,
            sequence=row.sequence,
            context={"bytes": nbytes, "used": memory.used, "limit": memory.limit},
        )

    def _too_slow(self, row: Row, seconds: float) -> TimeLimitExceeded:
        return TimeLimitExceeded(
            f"node {self.planned.id!r} ({self.planned.node_type}) took {seconds * 1e3:.0f} ms over one row;"
            f" the limit is {self._pipeline.timeout_seconds * 1e3:.0f} ms",
            node_id=self.planned.id,
            sequence=row.sequence,
            context={"limit_ms": self._pipeline.timeout_seconds * 1e3, "value_ms": seconds * 1e3},
        )


def _only(items: Sequence[Item], types: tuple[type[Item], ...] | None) -> Sequence[Item]:
    if types is None or not items:
        return items
    return [item for item in items if isinstance(item, types)]


def _without_address(given: Iterable[Item | To]) -> list[Item]:
    return [each.item if isinstance(each, To) else each for each in given]


def _all(given: Given) -> Sequence[Item]:
    if isinstance(given, dict):
        return [item for items in given.values() for item in items]
    return given


def _words(item: Item) -> str:
    if isinstance(item, Audio):
        return f"{item.frames.shape[0]}x{item.channels} {item.sample_format} at {item.sample_rate} Hz"
    return "data"
