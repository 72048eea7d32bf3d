"""Session events other than results: ready, errors in band and metrics; and the client's reader of all events."""

from __future__ import annotations

from engine.errors import EngineError
from engine.messages import Ready, Result, SessionMetrics
from protos import streaming_pb2 as streaming
from transport.codec.errors import RemoteError, error_response
from transport.codec.results import decode_result, read_figures, write_figures

__all__ = ["Event", "decode_event", "decode_ready", "encode_error", "encode_metrics", "encode_ready"]

Event = Result | RemoteError | SessionMetrics

_SAME_FIELDS = (
    "session_id", "received", "accepted", "delivered", "rejected", "refused", "dropped", "cancelled", "missing",
    "in_flight", "total_samples", "average_latency_ms", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms",
    "max_latency_ms", "peak_memory_bytes", "delay_ms", "final",
)  # fmt: skip
"""Fields of `StreamMetrics` and `SessionMetrics` that have the same name and meaning."""


# ---- written


def encode_ready(ready: Ready) -> streaming.StreamResponse:
    """Encode the first answer of a session."""
    return streaming.StreamResponse(
        ready=streaming.StreamReady(
            session_id=ready.session_id,
            recommended_chunk_ms=ready.recommended_chunk_ms,
            max_delay_ms=ready.max_delay_ms,
            input_capacity=ready.input_capacity,
        )
    )


def encode_error(error: EngineError, *, debug: bool = False) -> streaming.StreamResponse:
    """Encode an error in band, with the sequence number that it concerns, if any."""
    response = streaming.StreamResponse(error=error_response(error, debug=debug))
    if error.sequence is not None:
        response.sequence = error.sequence
    return response


def encode_metrics(metrics: SessionMetrics) -> streaming.StreamResponse:
    """Encode a session's metrics; `chunks_processed` is delivered plus rejected."""
    wire = streaming.StreamMetrics(
        chunks_processed=metrics.delivered + metrics.rejected, **{name: getattr(metrics, name) for name in _SAME_FIELDS}
    )
    for node, figures in metrics.figures.items():
        write_figures(figures, wire.node_metrics[node])
    return streaming.StreamResponse(metrics=wire)


# ---- read


def decode_ready(wire: streaming.StreamReady) -> Ready:
    """Decode the first answer of a session."""
    return Ready(wire.session_id, wire.max_delay_ms, wire.input_capacity, wire.recommended_chunk_ms)


def decode_event(response: streaming.StreamResponse) -> Event | None:
    """Decode an event; None for a kind that this client does not know.

    Raises:
      ChunkRefused: the server sent invalid audio.
    """
    sequence = response.sequence if response.WhichOneof("about") else None
    what = response.WhichOneof("response")
    if what == "result":
        return decode_result(response.result, sequence, response.flush, response.timestamp_ms)
    if what == "error":
        return RemoteError(response.error, sequence)
    if what == "metrics":
        return _decode_metrics(response.metrics)
    return None


def _decode_metrics(wire: streaming.StreamMetrics) -> SessionMetrics:
    figures = {node: read_figures(each) for node, each in wire.node_metrics.items()}
    return SessionMetrics(figures=figures, **{name: getattr(wire, name) for name in _SAME_FIELDS})
