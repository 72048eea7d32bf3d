"""Scripts of sessions with Headrace, and the reading of its messages."""

from __future__ import annotations

import numpy as np

from benchmarks.load.script import Kind, Outcome, Script
from benchmarks.load.workloads import speech_like
from engine.limits import ResourceLimits, SessionOptions
from engine.manifest import Manifest
from engine.messages import Chunk
from nodes.contract import Audio
from protos import streaming_pb2 as streaming
from transport.codec.methods import STREAMING_SERVICE
from transport.codec.requests import encode_chunk, encode_control, encode_open

__all__ = ["PATH", "kind_of", "pipeline_script", "troubles"]

PATH = f"/{STREAMING_SERVICE}/StreamPipeline"


def kind_of(message: bytes) -> Kind:
    """Return the kind of a `StreamResponse`."""
    response = streaming.StreamResponse.FromString(message)
    if response.HasField("result"):
        return Kind.OTHER if response.flush else Kind.ANSWER
    if response.HasField("error"):
        return Kind.ERROR
    return Kind.KEPT if response.HasField("metrics") and response.metrics.final else Kind.OTHER


def pipeline_script(
    manifest: Manifest,
    *,
    chunk_ms: float,
    chunks: int,
    sample_rate: int = 48_000,
    lean: bool = True,
    sample_every: int = 0,
) -> Script:
    """Make the script of a session that streams speech-like audio, mono i16.

    Args:
      manifest: Pipeline with one source.
      chunk_ms: Length of a chunk.
      chunks: Number of chunks.
      sample_rate: In Hz.
      lean: Ask for results without per-node maps.
      sample_every: Keep one in this number of a session's results; 0 keeps none.
    """
    options = SessionOptions(lean=lean, metrics_interval_ms=600_000)
    return Script(
        path=PATH,
        opening=(encode_open(manifest, ResourceLimits(), options),),
        ready_after=1,
        chunks=tuple(encode_chunk(Chunk(audio, i)) for i, audio in enumerate(_cut(chunk_ms, chunks, sample_rate))),
        closing=(encode_control(streaming.StreamControl.COMMAND_CLOSE),),
        kind_of=kind_of,
        sample_every=sample_every,
    )


def troubles(outcome: Outcome) -> list[str]:
    """Return a note on the errors of a load, with the first few; empty without errors."""
    if not outcome.failed:
        return []
    texts = {each if isinstance(each, str) else _message(each) for each in outcome.errors}
    return [f"{outcome.failed} errors, such as: {'; '.join(sorted(texts))}"]


def _message(error: bytes) -> str:
    return streaming.StreamResponse.FromString(error).error.message


def _cut(chunk_ms: float, chunks: int, sample_rate: int) -> list[Audio]:
    """Make the chunks from at most ten seconds of audio, which are repeated."""
    step = max(1, round(sample_rate * chunk_ms / 1000))
    period = max(1, min(chunks, 10 * sample_rate // step))
    frames = speech_like(period * step / sample_rate + 1, sample_rate).frames
    cut = np.split(frames[: period * step], period)
    return [Audio(cut[i % period], sample_rate) for i in range(chunks)]
