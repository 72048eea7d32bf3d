"""Results of a row and of a unary call, written by the server and read by clients."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from engine.errors import EngineError, NodeFailed
from engine.messages import NodeFigures, NodeOutcome, NodeStatus, Output, Result, Status
from engine.strict_json import dump_json
from nodes.contract import Data
from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.codec.audio import decode_audio, encode_audio
from transport.codec.errors import RemoteError, error_response, lenient_object

__all__ = [
    "NodeResults",
    "decode_execute_response",
    "decode_result",
    "encode_execute_response",
    "encode_result",
    "execution_result",
    "read_figures",
    "write_figures",
]

_NODE_STATUSES_TO_WIRE = {
    NodeStatus.SUCCESS: pb.NODE_STATUS_SUCCESS,
    NodeStatus.SKIPPED: pb.NODE_STATUS_SKIPPED,
    NodeStatus.FAILED: pb.NODE_STATUS_FAILED,
}
_STATUSES_TO_WIRE = {
    Status.SUCCESS: pb.EXECUTION_STATUS_SUCCESS,
    Status.PARTIAL_SUCCESS: pb.EXECUTION_STATUS_PARTIAL_SUCCESS,
    Status.FAILED: pb.EXECUTION_STATUS_FAILED,
}
_NODE_STATUSES_FROM_WIRE = {wire: status for status, wire in _NODE_STATUSES_TO_WIRE.items()}
_STATUSES_FROM_WIRE = {wire: status for status, wire in _STATUSES_TO_WIRE.items()}


# ---- written


class NodeResults:
    """Cache of the `node_results` part of a session's results; built again only when the outcomes change.

    Args:
      debug: Include stack traces.
    """

    __slots__ = ("_built", "_debug", "_outcomes")

    def __init__(self, *, debug: bool = False) -> None:
        self._debug = debug
        self._outcomes: Sequence[NodeOutcome] = ()
        self._built = pb.ExecutionResult()

    def of(self, outcomes: Sequence[NodeOutcome]) -> pb.ExecutionResult:
        """Return a result that holds this part alone; callers copy it and never change it."""
        if outcomes is not self._outcomes:
            self._built = pb.ExecutionResult()
            for each in outcomes:
                wire = self._built.node_results.add(
                    node_id=each.node_id, status=_NODE_STATUSES_TO_WIRE[each.status], output_metadata=each.metadata
                )
                if each.error is not None:
                    wire.error.CopyFrom(error_response(each.error, debug=self._debug))
            self._outcomes = outcomes
        return self._built


def execution_result(result: Result, wire: pb.ExecutionResult, nodes: NodeResults) -> None:
    """Write a result into an empty message.

    `serialization_time_ms` is the time to parse the request and build this content. It cannot include the final
    encoding of this very message. The same time counts as CPU time, because parsing and building never wait.

    Raises:
      NodeFailed: a node emitted data that cannot be written as JSON.
    """
    began = perf_counter()
    if result.nodes:
        wire.CopyFrom(nodes.of(result.nodes))
    for node, output in result.outputs.items():
        if output.audio is not None:
            encode_audio(output.audio, wire.audio_outputs[node])
        if output.data is not None:
            wire.data_outputs[node] = _json(output.data, node, result.sequence)
    wire.status = _STATUSES_TO_WIRE[result.status]
    metrics = wire.metrics
    for node, figures in result.figures.items():
        write_figures(figures, metrics.node_metrics[node])
    metrics.memory_used_bytes = result.memory_bytes
    built = (perf_counter() - began) * 1e3
    metrics.wall_time_ms = result.wall_ms + built
    metrics.cpu_time_ms = result.cpu_ms + result.parse_ms + built
    metrics.serialization_time_ms = result.parse_ms + built


def _json(data: Data, node: str, sequence: int | None) -> str:
    try:
        return dump_json(data.value)
    except (ValueError, TypeError, RecursionError) as error:
        raise NodeFailed(
            f"node {node!r} emitted data that is not JSON: {error}", node_id=node, sequence=sequence
        ) from error


def encode_result(result: Result, nodes: NodeResults | None = None) -> streaming.StreamResponse:
    """Encode the answer to one row.

    Args:
      result: The row's result.
      nodes: The session's cache of node results; None builds them for this result alone.

    Raises:
      NodeFailed: a node emitted data that cannot be written as JSON.
    """
    response = streaming.StreamResponse()
    if result.flush:
        response.flush = True
    if result.timestamp_ms:
        response.timestamp_ms = result.timestamp_ms
    if result.sequence is not None:
        response.sequence = result.sequence
    execution_result(result, response.result, nodes or NodeResults())
    return response


def encode_execute_response(outcome: Result | EngineError, *, debug: bool = False) -> execution.ExecuteResponse:
    """Encode the answer of a unary call."""
    response = execution.ExecuteResponse()
    if isinstance(outcome, EngineError):
        response.error.CopyFrom(error_response(outcome, debug=debug))
    else:
        execution_result(outcome, response.result, NodeResults(debug=debug))
    return response


def write_figures(figures: NodeFigures, wire: pb.NodeMetrics) -> None:
    """Write one node's figures into an empty message."""
    wire.execution_time_ms = figures.run_ms
    wire.memory_bytes = figures.memory_bytes
    wire.samples_processed = figures.samples
    wire.custom_metrics = figures.custom_metrics
    wire.queue_time_ms = figures.queue_ms
    wire.chunks = figures.chunks
    wire.max_execution_time_ms = figures.max_run_ms


# ---- read


def decode_result(wire: pb.ExecutionResult, sequence: int | None, flush: bool, timestamp_ms: int) -> Result:
    """Read a row's result.

    Raises:
      ChunkRefused: the server sent invalid audio.
    """
    outputs = {node: Output(decode_audio(buffer)) for node, buffer in wire.audio_outputs.items()}
    for node, text in wire.data_outputs.items():
        audio = outputs[node].audio if node in outputs else None
        outputs[node] = Output(audio, Data(lenient_object(text)))
    metrics = wire.metrics
    return Result(
        sequence=sequence,
        flush=flush,
        outputs=outputs,
        status=_STATUSES_FROM_WIRE.get(wire.status, Status.FAILED),
        nodes=[
            NodeOutcome(
                node.node_id,
                _NODE_STATUSES_FROM_WIRE.get(node.status, NodeStatus.FAILED),
                RemoteError(node.error, sequence) if node.HasField("error") else None,
                node.output_metadata,
            )
            for node in wire.node_results
        ],
        figures={node: read_figures(each) for node, each in metrics.node_metrics.items()},
        wall_ms=metrics.wall_time_ms,
        cpu_ms=metrics.cpu_time_ms,
        memory_bytes=metrics.memory_used_bytes,
        parse_ms=metrics.serialization_time_ms,
        timestamp_ms=timestamp_ms,
    )


def read_figures(wire: pb.NodeMetrics) -> NodeFigures:
    """Read one node's figures."""
    return NodeFigures(
        run_ms=wire.execution_time_ms,
        queue_ms=wire.queue_time_ms,
        max_run_ms=wire.max_execution_time_ms,
        chunks=wire.chunks,
        samples=wire.samples_processed,
        memory_bytes=wire.memory_bytes,
        custom_metrics=wire.custom_metrics,
    )


def decode_execute_response(response: execution.ExecuteResponse) -> Result:
    """Read the result of a unary call.

    Raises:
      RemoteError: the answer is an error.
      ChunkRefused: the server sent invalid audio.
    """
    if response.WhichOneof("outcome") == "error":
        raise RemoteError(response.error)
    return decode_result(response.result, None, True, 0)
