"""The task of the usual node: inline, at most one inbound edge, not a `Join`. Same behaviour as `NodeTask`, less work.

The usual row has one item, of a kind that its edge carries; it is not a barrier, and no source has ended by then. One
function does such a row, without the list of packets, the gathered items and the checks that it does not need. All
other rows go through the methods of `NodeTask`.
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
    """Make the task for a node: a `SingleInputTask` where one will do, otherwise a `NodeTask`."""
    node = planned.node
    is_plain = node.placement == "inline" and not isinstance(node, Join) and len(planned.inbound) <= 1
    return (SingleInputTask if is_plain else NodeTask)(planned, pipeline, capacity)


class SingleInputTask(NodeTask):
    """A node with one inbound edge, so that each row is one packet."""

    __slots__ = ("_capacity", "_process", "_queue", "_schedule", "_takes")

    def __init__(self, planned: PlannedNode, pipeline: Graph, capacity: int) -> None:
        super().__init__(planned, pipeline, capacity)
        self._capacity = capacity
        self._queue: deque[Packet] = self.inbox.queues[0]
        self._process: Callable[[Any], Iterable[Item | To]] = planned.node.process
        self._takes: tuple[type[Item], ...] = self._filters[0] or (Audio, Data)
        self._schedule = pipeline.scheduler.schedule

    def inlet(self, edge: int) -> Callable[[Packet], None]:
        """Return the callable that takes the edge's packets; it never waits."""
        return self.take

    def take(self, packet: Packet) -> None:
        """Take a packet, as `put` does, from the only edge."""
        queue = self._queue
        if len(queue) >= self._capacity:
            raise trio.WouldBlock
        queue.append(packet)
        if not self._failed:
            self._schedule(self)

    def do_next(self) -> float:
        """Do the next row, unless there is none or the node has failed.

        Returns:
          Time when it was done (`perf_counter`), or 0.0 if no row was.
        """
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
