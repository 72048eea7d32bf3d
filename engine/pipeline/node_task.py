"""The task of one node: for every row it takes one packet from each inbound edge and puts one on each outbound edge.

The scheduler runs inline nodes (`engine.pipeline.scheduler`), usually in the task that delivers the row; a node's own
task does the rows left over. A node placed in a thread runs there, and its task waits for it. A row costs a packet and
a mark for each node: no task, cancel scope or lock, and no thread hop for an inline node.
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
"""Most rows for one thread call."""

Given = Sequence[Item] | dict[str, Sequence[Item]]

Done = tuple[Sequence[Item | To], EngineError | None, float, float]
"""Items emitted for a row, the node's rejection if any, and the times when it began and ended (`perf_counter`)."""

_TYPES: Mapping[Kind, tuple[type[Item], ...]] = {Kind.AUDIO: (Audio,), Kind.DATA: (Data,), Kind.BOTH: (Audio, Data)}

_SUCCESS, _SKIPPED, _FAILED = NodeStatus.SUCCESS, NodeStatus.SKIPPED, NodeStatus.FAILED

_JSON = json.JSONEncoder(default=str, allow_nan=False)


class NodeTask:
    """A node with its inbox, outlets and figures.

    Args:
      planned: The node in its place.
      pipeline: The graph that the node belongs to.
      capacity: Packets that an edge holds.

    Attributes:
      inbox: Packets that wait for the node.
      outlets: For each outbound edge, the callable that takes its packets; it never waits.
      downstreams: For each outlet, the id of the node that it leads to.
      abandoned: True if the node's thread call was abandoned; see `engine.runtime.placement`.
    """

    __slots__ = (
        "_away", "_custom", "_delay", "_failed", "_filters", "_gives", "_held", "_hold_limit", "_holds", "_in_thread",
        "_index", "_joins", "_limit", "_max_run", "_memory", "_node", "_pipeline", "_queued", "_reported_ended",
        "_routes", "_rows", "_run", "_samples", "_scheduler", "_upstreams", "abandoned", "downstreams", "inbox",
        "outlets", "planned",
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
        self._reported_ended: set[str] = set()
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
        """Return the callable that takes an inbound edge's packets; it never waits."""
        return partial(self.put, edge)

    def put(self, edge: int, packet: Packet) -> None:
        """Take a packet from an inbound edge; schedule the node if that makes a row whole."""
        if self.inbox.put(edge, packet) and not self._failed:
            if self._in_thread:
                self.inbox.wake()
            else:
                self._scheduler.schedule(self)

    async def run(self) -> None:
        """Do the rows left to this task, until the nursery is cancelled or the node has failed."""
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
        """Do the next whole row, unless the node has failed; return the time when it was done, 0.0 if none was."""
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
        """Do the waiting rows in a thread: in one call, unless they take long (`engine.runtime.placement`)."""
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
        """Call `_work` in a thread, and charge the thread's CPU time to the row, as no scheduler run does."""
        cpu = thread_time()
        done = self._work(row, given)
        row.cpu_s += thread_time() - cpu
        return done

    def _settle(self, packets: Sequence[Packet], items: Sequence[Item], done: Done) -> None:
        """Account for a row that the node has done, and pass it on; fail the node if it took too long."""
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
        """Collect the node's input of a row: the items of the kinds that its edges carry."""
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
        """Run the node on its input of a row, in the calling thread.

        Raises:
          NodeFailed: the node raised an exception other than `InvalidInput`, or broke its contract.
        """
        began = perf_counter()
        node = self._node
        refusal: InvalidInput | None = None
        calls: Sequence[Any] = given if not isinstance(given, dict) else (given,) if any(given.values()) else ()
        made: Sequence[Item | To] = ()
        try:
            if row.ended:
                self._report_ended(row)
            for each in calls:
                try:
                    more = node.process(each)
                    made = (*made, *listed(more)) if made or type(more) is not tuple else more
                except InvalidInput as error:
                    refusal = refusal or error
            if row.flush:
                made = (*made, *listed(node.finish()))
                self._reported_ended.clear()
            for item in made:
                if not isinstance(item, self._gives):
                    self._require_address(item)
        except Exception as error:  # any other exception is the node's failure, reported with its stack trace
            raise node_failed(self.planned, "failed", error, row.sequence, _all(given)) from error
        refused = None if refusal is None else node_refused(self.planned, refusal, row.sequence, _all(given))
        return made, refused, began, perf_counter()

    def _report_ended(self, row: Row) -> None:
        """Call a `Join`'s `ended` for each upstream node whose sources have all ended, once until the next flush."""
        if isinstance(self._node, Join):
            for edge in self.planned.inbound:
                upstream = self._pipeline.plan.nodes[edge.source]
                if upstream.origins <= row.ended and upstream.id not in self._reported_ended:
                    self._reported_ended.add(upstream.id)
                    self._node.ended(upstream.id)

    def _require_address(self, made: object) -> None:
        if not (self._node.routes and isinstance(made, To) and isinstance(made.item, self._gives)):
            raise TypeError(f"emitted {made!r:.80}, but declares that it gives {self._node.gives}")
        if made.target not in self.downstreams:
            there = ", ".join(map(repr, self.downstreams)) or "none"
            raise ValueError(f"emitted an item for {made.target!r}, but its downstream nodes are {there}")

    def _account(self, row: Row, items: Sequence[Item], refusal: EngineError | None, run: float, queued: float) -> None:
        """Set the row's mark, and add to the node's figures."""
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
        """Send a packet to every outlet, add the node's output to the row, and report a sink's completion.

        Args:
          row: The row.
          given: Items that the node emitted for it.
          now: Time when it was done.
          spent: Packet that brought the row, reused for the emitted items if it has no readers left.
        """
        memory, outlets = self._memory, self.outlets
        made: Sequence[Item] = _without_address(given) if self._routes else given  # type: ignore[assignment]
        nbytes = items_bytes(made) if made else 0
        if nbytes and not memory.take(nbytes):
            row.rejections.append(too_large(self.planned, nbytes, row.sequence, memory))
            given, made, nbytes = (), (), 0
        if made and self.planned.is_output:
            if outlets:
                memory.add(nbytes)  # held twice: by the row as its output, and by the packet
            row.nbytes += nbytes
            row.outputs[self.planned.id] = made
        if not outlets:
            self._pipeline.sink_done(row)
        elif self._routes:
            memory.release(nbytes)  # each share is accounted for separately
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
        """Send each outlet its own packet, with the items for all nodes and those for its node alone."""
        for outlet, downstream in zip(self.outlets, self.downstreams, strict=True):
            share = _without_address(each for each in given if not isinstance(each, To) or each.target == downstream)
            nbytes = items_bytes(share)
            self._memory.add(nbytes)
            outlet(Packet(row, share, now, nbytes, 1))

    def close(self) -> None:
        """Close the node, which may raise any exception."""
        self._node.close()

    def release(self) -> None:
        """Drop the reference to the pipeline at the session's end; the node's last reported figures stand."""
        self._away = True
        del self._pipeline

    def figures(self) -> NodeFigures:
        """Return the node's figures since the session began."""
        return NodeFigures(
            self._run * 1e3,
            self._queued * 1e3,
            self._max_run * 1e3,
            self._rows,
            self._samples,
            self.memory_bytes(),
            self.custom_json(),
        )

    # ---- the node's own reports
    # A node that raises here has failed. While a thread runs the node, it is not asked, and its last report stands.

    def memory_bytes(self) -> int:
        """Return the bytes that the node reports to hold."""
        if not self._away:
            try:
                self._held = self._node.memory_bytes
            except Exception as error:
                self._pipeline.fail_now(node_failed(self.planned, "failed to report its memory", error))
        return self._held

    def delay_s(self) -> float:
        """Return the seconds by which the node reports that its output lags its input."""
        if not self._away:
            try:
                self._delay = self._node.delay
            except Exception as error:
                self._pipeline.fail_now(node_failed(self.planned, "failed to report its delay", error))
        return self._delay

    def custom_json(self) -> str:
        """Return the node's own metrics as JSON text, "" if it has none."""
        if not self._away:
            try:
                self._custom = self._custom_text()
            except Exception as error:
                self._pipeline.fail_now(node_failed(self.planned, "failed to report its metrics", error))
        return self._custom

    def _custom_text(self) -> str:
        custom = dict(self._node.custom_metrics())
        if self._holds.count:
            custom["event_loop_holds"] = attrs.asdict(self._holds)
        return _JSON.encode(custom) if custom else ""


def listed(given: Iterable[Item | To]) -> Iterable[Item | To]:
    """Return a node's items as they are.

    Raises:
      TypeError: they are not iterable.
    """
    if not hasattr(given, "__iter__"):
        raise TypeError(f"returned {given!r:.80} instead of a list of items: yield each item, or return a list")
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
