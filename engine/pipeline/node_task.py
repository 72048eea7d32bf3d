"""One node at work: it takes one packet of each inbound edge for every row, and gives one to each outbound edge.

The scheduler runs inline nodes (`engine.pipeline.scheduler`), mostly in the task that brings the row; a node's own task
does what is left over. A node placed in a thread runs there, and its task waits for it. Per chunk only a packet and a
mark are made: no task, cancel scope, lock or, for an inline node, thread hop.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import Any

import attrs

from engine.errors import EngineError
from engine.manifest.plan import PlannedNode
from engine.messages import NodeFigures, NodeStatus
from engine.pipeline.graph import Graph
from engine.pipeline.inbox import Inbox
from engine.pipeline.node_errors import node_failed, node_refused, too_large, too_slow
from engine.pipeline.row import Packet, Row, items_bytes
from engine.runtime.watchdog import Holds
from nodes.contract import Audio, Data, InvalidInput, Item, Join, Kind, To

__all__ = ["BATCH_ROWS", "NodeTask", "listed"]

BATCH_ROWS = 64
"""Rows that one thread call may be asked to do."""

Given = Sequence[Item] | dict[str, Sequence[Item]]

Done = tuple[Sequence[Item | To], EngineError | None, float, float]
"""What a node made of a row, why it refused, when it began and ended (seconds)."""

_TYPES: Mapping[Kind, tuple[type[Item], ...]] = {Kind.AUDIO: (Audio,), Kind.DATA: (Data,), Kind.BOTH: (Audio, Data)}

_SUCCESS, _SKIPPED, _FAILED = NodeStatus.SUCCESS, NodeStatus.SKIPPED, NodeStatus.FAILED

_JSON = json.JSONEncoder(default=str, allow_nan=False)


class NodeTask:
    """A node with its inbox, outlets and figures.

    Args:
      planned: The node in its place.
      pipeline: Whose it is.
      capacity: Packets that an edge holds.

    Attributes:
      inbox: What waits for it.
      outlets: For each outbound edge what takes a packet; never waits.
      downstreams: For each of these the id of the node that it leads to.
      abandoned: A thread call of it was given up; see `engine.runtime.placement`.
    """

    __slots__ = (
        "_away", "_custom", "_delay", "_failed", "_filters", "_gives", "_held", "_hold_limit", "_holds", "_in_thread",
        "_index", "_joins", "_limit", "_max_run", "_memory", "_node", "_pipeline", "_queued", "_routes", "_rows",
        "_run", "_samples", "_scheduler", "_told_ended", "_upstreams", "abandoned", "downstreams", "inbox", "outlets",
        "planned",
    )  # fmt: skip

    def __init__(self, planned: PlannedNode, pipeline: Graph, capacity: int) -> None:
        self.planned = planned
        self.inbox = Inbox(len(planned.inbound) or 1, capacity)
        self.outlets: list[Callable[[Packet], None]] = []
        self.downstreams: list[str] = []
        self.abandoned = False
        self._pipeline = pipeline
        self._scheduler = pipeline.scheduler
        self._memory = pipeline.memory
        self._limit = pipeline.timeout_s
        self._index = planned.index
        self._node = planned.node
        self._in_thread = planned.node.placement == "thread"
        self._routes = planned.node.routes
        self._joins = isinstance(planned.node, Join)
        self._told_ended: set[str] = set()
        self._upstreams = [pipeline.plan.nodes[edge.source].id for edge in planned.inbound] or [""]
        self._filters = [_TYPES[edge.kinds] if edge.filters else None for edge in planned.inbound] or [None]
        self._gives = _TYPES[planned.node.gives]
        self._failed = self._away = False
        self._hold_limit = math.inf if self._in_thread else pipeline.watchdog.limit_s
        self._holds = Holds()
        self._held, self._delay, self._custom = 0, 0.0, ""
        self._run = self._queued = self._max_run = 0.0
        self._rows = self._samples = 0

    def inlet(self, edge: int) -> Callable[[Packet], None]:
        """What takes the packets of an inbound edge; never waits."""
        return partial(self.put, edge)

    def put(self, edge: int, packet: Packet) -> None:
        """Take a packet of an inbound edge; if that makes a row whole, it is due."""
        if self.inbox.put(edge, packet) and not self._failed:
            if self._in_thread:
                self.inbox.wake()
            else:
                self._scheduler.schedule(self)

    async def run(self) -> None:
        """See to the rows that are left to this task, until the nursery is cancelled or this node has failed."""
        scheduler = self._scheduler
        while not self._failed:
            await self.inbox.wait()
            if self._in_thread:
                await self._do_in_thread()
            else:
                for _ in range(self.inbox.whole_rows):
                    scheduler.schedule(self)
            scheduler.run()

    def do_next(self) -> float:
        """Do the next row here and now, if it is whole and the node has not failed; give when that was done."""
        packets = self.inbox.take()
        if packets is None or self._failed:
            return 0.0
        self._scheduler.begin(packets[0].row, self.planned)
        return self._do(packets)

    def _do(self, packets: list[Packet]) -> float:
        row = packets[0].row
        given = self._gather(packets)
        try:
            done = self._work(row, given)
        except EngineError as error:
            self._fail(row, error)
            return perf_counter()
        self._settle(packets, _all(given), done)
        return done[3]

    async def _do_in_thread(self) -> None:
        """Do in a thread as many rows as wait, in one call if that is quick."""
        waiting: deque[tuple[list[Packet], Given]] = deque()
        while not self._failed:
            while len(waiting) < BATCH_ROWS and (packets := self.inbox.take()) is not None:
                waiting.append((packets, self._gather(packets)))
            if not waiting:
                return
            work = [partial(self._work_there, packets[0].row, given) for packets, given in waiting]
            self._away = True
            outcomes = await self._pipeline.threads.run(work, self)
            self._away = False
            for outcome in outcomes:
                packets, given = waiting.popleft()
                try:
                    done = outcome.unwrap()
                except EngineError as error:
                    self._fail(packets[0].row, error)
                    break
                self._settle(packets, _all(given), done)
            self._scheduler.run()

    def _work_there(self, row: Row, given: Given) -> Done:
        """`_work` in a thread, whose CPU time no turn accounts for."""
        cpu = thread_time()
        done = self._work(row, given)
        row.cpu_s += thread_time() - cpu
        return done

    def _settle(self, packets: Sequence[Packet], items: Sequence[Item], done: Done) -> None:
        """Account for a row that has been done, and pass it on; if it took too long, the node has failed."""
        made, refusal, began, ended = done
        row = packets[0].row
        sent_at = packets[0].sent_at if len(packets) == 1 else max(each.sent_at for each in packets)
        self._account(row, items, refusal, ended - began, began - sent_at)
        for packet in packets:
            packet.readers -= 1
            if not packet.readers:
                self._memory.buffers -= packet.nbytes
        if ended - began > self._limit:
            self._fail(row, too_slow(self.planned, ended - began, row.sequence, self._limit))
        else:
            self._pass_on(row, made, ended, packets[0])

    def _fail(self, row: Row, error: EngineError) -> None:
        self._failed = True
        self._pipeline.fail(row, error)

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
        began = perf_counter()
        node = self._node
        refusal: InvalidInput | None = None
        calls: Sequence[Any] = given if not isinstance(given, dict) else (given,) if any(given.values()) else ()
        made: Sequence[Item | To] = ()
        try:
            if row.ended:
                self._tell_ended(row)
            for each in calls:
                try:
                    more = node.process(each)
                    made = (*made, *listed(more)) if made or type(more) is not tuple else more
                except InvalidInput as error:
                    refusal = refusal or error
            if row.flush:
                made = (*made, *listed(node.finish()))
                self._told_ended.clear()
            for item in made:
                if not isinstance(item, self._gives):
                    self._require_address(item)
        except Exception as error:  # whatever a node raises is the node's failure, reported with its stack trace
            raise node_failed(self.planned, "failed", error, row.sequence, _all(given)) from error
        refused = None if refusal is None else node_refused(self.planned, refusal, row.sequence, _all(given))
        return made, refused, began, perf_counter()

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

    def _account(self, row: Row, items: Sequence[Item], refusal: EngineError | None, run: float, queued: float) -> None:
        """Keep the row's mark and the session's figures."""
        if not (items or row.flush):
            row.marks[self._index] = (_SKIPPED, run, queued, 0)
            row.has_skipped = True
            return
        samples = 0
        for item in items:
            if type(item) is Audio:
                samples += item.frames.size
        row.marks[self._index] = (_SUCCESS if refusal is None else _FAILED, run, queued, samples)
        if refusal is not None:
            row.rejections.append(refusal)
        if items:
            self._rows += 1
        self._run += run
        self._queued += queued
        self._samples += samples
        if run > self._max_run:
            self._max_run = run
        if run > self._hold_limit:
            self._holds.note(run * 1e3)
            cpu = min(run, self._scheduler.cpu_s())
            self._pipeline.watchdog.note(self.planned.id, self.planned.node_type, run, cpu)

    def _pass_on(self, row: Row, given: Sequence[Item | To], now: float, spent: Packet) -> None:
        """Give every outlet its packet, the session its outputs, and the row its end.

        Args:
          row: Which.
          given: What the node has made of it.
          now: When that was done.
          spent: What brought the row; it goes on with what was made, if nobody reads it any more.
        """
        memory, outlets = self._memory, self.outlets
        made: Sequence[Item] = _without_address(given) if self._routes else given  # type: ignore[assignment]
        nbytes = items_bytes(made) if made else 0
        if nbytes and not memory.take(nbytes):
            row.rejections.append(too_large(self.planned, nbytes, row.sequence, memory))
            given, made, nbytes = (), (), 0
        if made and self.planned.is_output:
            if outlets:
                memory.add(nbytes)  # an output beside what goes on
            row.nbytes += nbytes
            row.outputs[self.planned.id] = made
        if not outlets:
            self._pipeline.sink_done(row)
        elif self._routes:
            memory.release(nbytes)  # each share is accounted for by itself
            self._share_out(row, given, now)
        else:
            packet = spent
            if spent.readers:
                packet = Packet(row, made, now, nbytes, len(outlets))
            else:
                packet.items = made
                packet.sent_at = now
                packet.nbytes = nbytes
                packet.readers = len(outlets)
            for outlet in outlets:
                outlet(packet)

    def _share_out(self, row: Row, given: Sequence[Item | To], now: float) -> None:
        """Give every outlet a packet of its own, with what is for all and what is for its node alone."""
        for outlet, downstream in zip(self.outlets, self.downstreams, strict=True):
            share = _without_address(each for each in given if not isinstance(each, To) or each.target == downstream)
            nbytes = items_bytes(share)
            self._memory.add(nbytes)
            outlet(Packet(row, share, now, nbytes, 1))

    def close(self) -> None:
        """Close the node. What it raises then is its own affair, and no reason to leave others open."""
        self._node.close()

    def release(self) -> None:
        """Let go of the pipeline, when all is over; what the node told of itself last stands."""
        self._away = True
        del self._pipeline

    def figures(self) -> NodeFigures:
        """What this node has cost since the session began."""
        return NodeFigures(
            self._run * 1e3,
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
                self._held = self._node.memory_bytes
            except Exception as error:
                self._pipeline.fail_now(node_failed(self.planned, "cannot tell its memory", error))
        return self._held

    def delay_s(self) -> float:
        """By how much the node says that its output lags its input."""
        if not self._away:
            try:
                self._delay = self._node.delay
            except Exception as error:
                self._pipeline.fail_now(node_failed(self.planned, "cannot tell its delay", error))
        return self._delay

    def custom_json(self) -> str:
        """The node's own figures as JSON text, "" when it has none."""
        if not self._away:
            try:
                self._custom = self._custom_text()
            except Exception as error:
                self._pipeline.fail_now(node_failed(self.planned, "cannot tell its figures", error))
        return self._custom

    def _custom_text(self) -> str:
        custom = dict(self._node.custom_metrics())
        if self._holds.count:
            custom["event_loop_holds"] = attrs.asdict(self._holds)
        return _JSON.encode(custom) if custom else ""


def listed(given: Iterable[Item | To]) -> Iterable[Item | To]:
    """What a node gave.

    Raises:
      TypeError: it is not iterable.
    """
    if not hasattr(given, "__iter__"):
        raise TypeError(f"gave {given!r:.80}, no list of items: yield each, or return a list of them")
    return given


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
