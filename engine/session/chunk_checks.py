"""The check of every offered chunk: its source, and the kind, size and format of its item."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.errors import ChunkRefused, MemoryLimitExceeded, SamplesLimitExceeded, UnknownSource
from engine.limits import MAX_DATA_BYTES, MAX_SEQUENCE, ResourceLimits
from engine.manifest.plan import PlannedNode
from engine.messages import Chunk
from nodes.contract import Audio, Kind, SampleFormat

__all__ = ["ChunkValidator"]

Format = tuple[int, int, SampleFormat]


class ChunkValidator:
    """Checks the chunks of one session.

    Args:
      sources: Source id → node.
      limits: The session's limits.
    """

    __slots__ = ("_formats", "_limits", "_only", "_sources", "_takes_audio", "_takes_data")

    def __init__(self, sources: Mapping[str, PlannedNode], limits: ResourceLimits) -> None:
        self._sources = sources
        self._takes_audio = {name for name, planned in sources.items() if Kind.AUDIO in planned.node.takes}
        self._takes_data = {name for name, planned in sources.items() if Kind.DATA in planned.node.takes}
        self._only = next(iter(sources)) if len(sources) == 1 else ""
        self._limits = limits
        self._formats: dict[str, Format] = {}

    def resolve_source(self, source: str) -> str:
        """Return the id of the source that a chunk names, or "" if there is no such source."""
        name = source or self._only
        return name if name in self._sources else ""

    def check(self, chunk: Chunk) -> str:
        """Check a chunk; return the id of its source.

        Raises:
          ChunkRefused: its source is unknown, or does not take it, or it is too large; the subclass says which.
        """
        name = chunk.source or self._only
        if name not in self._sources:
            raise self._unknown(chunk.source)
        if not 0 <= chunk.sequence <= MAX_SEQUENCE:
            raise ChunkRefused(f"sequence must be 0 to 2^64 - 1, got {chunk.sequence}")
        if isinstance(chunk.item, Audio):
            if name not in self._takes_audio:
                raise ChunkRefused(f"source {name!r} takes {self._sources[name].node.takes}, got audio")
            self._check_audio(name, chunk.item)
        else:
            if name not in self._takes_data:
                raise ChunkRefused(f"source {name!r} takes {self._sources[name].node.takes}, got data")
            if chunk.data_bytes > MAX_DATA_BYTES:
                raise ChunkRefused(f"data of {chunk.data_bytes} bytes; the limit is {MAX_DATA_BYTES}")
        if chunk.nbytes > self._limits.max_memory_bytes:
            raise MemoryLimitExceeded(
                f"a chunk of {chunk.nbytes} bytes; the session's memory limit is {self._limits.max_memory_bytes}",
                context={"value": chunk.nbytes, "limit": self._limits.max_memory_bytes},
            )
        return name

    def _check_audio(self, name: str, audio: Audio) -> None:
        frames = audio.frames
        if frames.size > self._limits.max_audio_samples:
            raise SamplesLimitExceeded(
                f"a chunk of {frames.size} samples; the limit is {self._limits.max_audio_samples}",
                context={"value": frames.size, "limit": self._limits.max_audio_samples},
            )
        if audio.sample_format == "f32" and not np.isfinite(frames).all():
            bad = int(np.flatnonzero(~np.isfinite(frames))[0])
            raise ChunkRefused(f"sample {bad} is {frames.flat[bad]}: samples must be finite numbers")
        form = _format(audio)
        fixed = self._formats.get(name, form)
        if form != fixed:
            raise ChunkRefused(
                f"source {name!r} has sent {_describe(fixed)} so far, this chunk is {_describe(form)};"
                " the format may change only after a FLUSH"
            )

    def _unknown(self, source: str) -> UnknownSource:
        there = ", ".join(map(repr, self._sources))
        if not source:
            return UnknownSource(f"node_id is empty, but there are several sources: {there}")
        return UnknownSource(f"{source!r:.140} is not a source of this pipeline; sources are {there}")

    def accepted(self, name: str, chunk: Chunk) -> None:
        """Fix the source's format from its first admitted chunk; late and duplicate chunks do not count."""
        if name not in self._formats and isinstance(chunk.item, Audio):
            self._formats[name] = _format(chunk.item)

    def flush(self) -> None:
        """Forget the sources' formats, which may change after a flush."""
        self._formats.clear()


def _format(audio: Audio) -> Format:
    return audio.sample_rate, audio.channels, audio.sample_format


def _describe(form: Format) -> str:
    rate, channels, sample_format = form
    return f"{sample_format} at {rate} Hz with {channels} channel{'s' * (channels > 1)}"
