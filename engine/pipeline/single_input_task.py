"""The usual node at work: in line, one inbound edge at most, no `Join`. Quicker, and otherwise the same.

A row with one item, which the edge lets through and which is neither a barrier nor a source's last, is done in one
function; all others go the way of every other node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import trio

from engine.errors import EngineError
from engine.manifest.plan import PlannedNode
from engine.pipeline.graph import Graph
from engine.pipeline.node_errors import node_failed, node_refused
from engine.pipeline.node_task import NodeTask, listed
from engine.pipeline.row import Packet
from nodes.contract import Audio, Data, InvalidInput, Item, Join, To

__all__ = ["SingleInputTask", "make_task"]


def make_task(planned: PlannedNode, pipeline: Graph, capacity: int) -> NodeTask:
    """Put a node to work in the way that fits its place."""
    node = planned.node
    is_plain = node.placement == "inline" and not isinstance(node, Join) and len(planned.inbound) <= 1
    return (SingleInputTask if is_plain else NodeTask)(planned, pipeline, capacity)


class SingleInputTask(NodeTask):
    """A node whose rows are one packet each."""

    __slots__ = ("_capacity", "_process", "_queue", "_schedule", "_takes")

    def __init__(self, planned: PlannedNode, pipeline: Graph, capacity: int) -> None:
        super().__init__(planned, pipeline, capacity)
        self._capacity = capacity
        self._queue: deque[Packet] = self.inbox.queues[0]
        self._process: Callable[[Any], Iterable[Item | To]] = planned.node.process
        self._takes: tuple[type[Item], ...] = self._filters[0] or (Audio, Data)
        self._schedule = pipeline.scheduler.schedule

    def inlet(self, edge: int) -> Callable[[Packet], None]:
        """What takes the packets of its edge; never waits."""
        return self.take

    def take(self, packet: Packet) -> None:
        """`put`, on its one edge."""
        queue = self._queue
        if len(queue) >= self._capacity:
            raise trio.WouldBlock
        queue.append(packet)
        if not self._failed:
            self._schedule(self)

    def do_next(self) -> float:
        """Do the next row here and now, if there is one and the node has not failed; give when that was done."""
        if not self._queue or self._failed:
            return 0.0
        packet = self._queue.popleft()
        row, items = packet.row, packet.items
        self._scheduler.begin(row, self.planned)
        if len(items) != 1 or row.flush or row.ended or not isinstance(items[0], self._takes):
            return self._do([packet])
        (item,) = items
        refusal: EngineError | None = None
        made: Iterable[Item | To]
        began = perf_counter()
        try:
            made = self._process(item)
            if type(made) is not tuple:
                made = tuple(listed(made))
            for each in made:
                if not isinstance(each, self._gives):
                    self._require_address(each)
        except InvalidInput as error:
            made, refusal = (), node_refused(self.planned, error, row.sequence, items)
        except Exception as error:  # as in NodeTask._work
            failure = node_failed(self.planned, "failed", error, row.sequence, items)
            failure.__cause__ = error
            self._fail(row, failure)
            return perf_counter()
        ended = perf_counter()
        self._settle((packet,), items, (made, refusal, began, ended))
        return ended
