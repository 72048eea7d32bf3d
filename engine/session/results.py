"""Turn a finished row into its result: join the items, and make outcomes and figures of the marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import cast

import numpy as np

from engine.errors import EngineError
from engine.manifest.plan import Plan
from engine.messages import NodeFigures, NodeOutcome, NodeStatus, Output, Result, Status
from engine.pipeline.node_errors import node_failed
from engine.pipeline.node_task import NodeTask
from engine.pipeline.row import Mark, Row
from nodes.contract import Audio, Data, Item

__all__ = ["ResultMaker", "join_items"]

_SUCCESS, _PARTIAL_SUCCESS = Status.SUCCESS, Status.PARTIAL_SUCCESS


def join_items(task: NodeTask, items: Sequence[Item], sequence: int | None = None) -> Output:
    """Make one output of a node's items: audio end to end, data by the node's `join`.

    Raises:
      NodeFailed: the audio is of unlike formats, or `join` raised.
    """
    try:
        if len(items) == 1:  # the usual case
            (item,) = items
            return Output(item) if isinstance(item, Audio) else Output(None, task.planned.node.join([item]))
        audio = [item for item in items if isinstance(item, Audio)]
        data = [item for item in items if isinstance(item, Data)]
        return Output(_join_audio(audio), task.planned.node.join(data) if data else None)
    except Exception as error:  # `join` is the node's code: any exception of it is that node's failure
        raise node_failed(task.planned, "emitted outputs that cannot be joined", error, sequence) from error


def _join_audio(audio: Sequence[Audio]) -> Audio | None:
    if not audio:
        return None
    first = audio[0]
    if len(audio) == 1:
        return first
    forms = {(each.sample_rate, each.channels, each.sample_format) for each in audio}
    if len(forms) > 1:
        raise ValueError(f"audio of unlike formats: {sorted(forms)}")
    return Audio(np.concatenate([each.frames for each in audio]), first.sample_rate, first.start)


class ResultMaker:
    """Makes the results of one session.

    Args:
      plan: The session's plan.
      tasks: The tasks of its nodes, in topological order.
      lean: Leave out the per-node parts.
    """

    __slots__ = ("_by_id", "_done", "_lean", "_skipped", "_tasks")

    def __init__(self, plan: Plan, tasks: Sequence[NodeTask], lean: bool) -> None:
        self._tasks = tasks
        self._by_id = {task.planned.id: task for task in tasks}
        self._lean = lean
        self._done = [NodeOutcome(node.id, NodeStatus.SUCCESS, metadata=node.metadata) for node in plan.nodes]
        self._skipped = [NodeOutcome(node.id, NodeStatus.SKIPPED, metadata=node.metadata) for node in plan.nodes]

    def make(self, row: Row, peak_memory: int) -> Result:
        """Make a row's result.

        Raises:
          NodeFailed: a node's items cannot be joined.
        """
        outputs: dict[str, Output] = {}
        for node, items in row.outputs.items():
            outputs[node] = join_items(self._by_id[node], items, row.sequence)
        status = _PARTIAL_SUCCESS if row.has_skipped or row.rejections else _SUCCESS
        nodes: Sequence[NodeOutcome] = ()
        figures: Mapping[str, NodeFigures] = {}
        if not self._lean:
            marks = cast(list[Mark], row.marks)  # every node has done a row that all sinks have done
            nodes = self._done if status is _SUCCESS else self._outcomes(marks, row.rejections)
            figures = self._figures(marks)
        wall_ms = (perf_counter() - row.received_at) * 1e3
        cpu_ms, parse_ms = row.cpu_s * 1e3, row.parse_s * 1e3
        return Result(  # positional, because keyword arguments take twice as long
            row.sequence,
            row.flush,
            outputs,
            row.outputs,
            row.rejections,
            status,
            nodes,
            figures,
            wall_ms,
            cpu_ms,
            peak_memory,
            parse_ms,
            row.timestamp_ms,
        )

    def _outcomes(self, marks: Sequence[Mark], errors: Sequence[EngineError]) -> list[NodeOutcome]:
        outcomes = [
            skipped if status is NodeStatus.SKIPPED else done
            for (status, *_), done, skipped in zip(marks, self._done, self._skipped, strict=True)
        ]
        for error in errors:
            index = self._by_id[error.node_id].planned.index
            outcomes[index] = NodeOutcome(error.node_id, NodeStatus.FAILED, error, self._done[index].metadata)
        return outcomes

    def _figures(self, marks: Sequence[Mark]) -> dict[str, NodeFigures]:
        return {
            task.planned.id: NodeFigures(
                run * 1e3,
                queued * 1e3,
                run * 1e3,
                int(status is not NodeStatus.SKIPPED),
                samples,
                task.memory_bytes(),
                task.custom_json(),
            )
            for task, (status, run, queued, samples) in zip(self._tasks, marks, strict=True)
        }
