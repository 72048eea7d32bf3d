"""The options that `stream` and `run` share, and what they make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from engine.cli.common.command import with_options
from engine.cli.common.failures import BadInput
from engine.cli.common.manifests import packaged_manifest, read_manifest, source_ids
from engine.cli.streaming.feeder import Pace
from engine.limits import Overflow, ResourceLimits, SessionOptions
from engine.manifest import Manifest
from engine.manifest.checker import make_plan
from engine.manifest.plan import Registry

__all__ = ["Job", "job_options", "make_job"]

F = TypeVar("F", bound=Callable[..., Any])

_OVERFLOWS = {"block": Overflow.BLOCK, "drop-oldest": Overflow.DROP_OLDEST, "drop-newest": Overflow.DROP_NEWEST}


def _number(default: str) -> dict[str, Any]:
    """What an option has whose absence, 0 on the wire, means a default of the service's."""
    return {"default": 0, "type": click.IntRange(0), "show_default": default}


_OPTIONS = (
    click.argument("file", type=click.Path(path_type=Path)),
    click.option(
        "-m", "--manifest", metavar="PATH",
        help="The pipeline, a JSON file; - is standard input.",
        show_default="resample to 16 kHz, find speech, measure the level",
    ),
    click.option("--realtime", is_flag=True, help="At a microphone's pace, else as fast as the session takes it."),
    click.option("--chunk-ms", default=20.0, metavar="MS", type=click.FloatRange(1, 10_000), help="Length of a chunk."),
    click.option("--node", metavar="ID", help="The source to feed.", show_default="the only one"),
    click.option("--format", "sample_format", default="f32", type=click.Choice(["f32", "i16"]), help="What is sent."),
    click.option(
        "--out-dir", metavar="DIR", type=click.Path(path_type=Path),
        help="Write what nodes give: audio to ID.wav, data to ID.jsonl.",
    ),
    click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object on each line."),
    click.option("--overflow", default="block", type=click.Choice(list(_OVERFLOWS)), help="What a full session does."),
    click.option("--max-age-ms", metavar="MS", help="Drop chunks that waited longer.", **_number("never")),
    click.option("--lean", is_flag=True, help="Results without per-node figures."),
    click.option("--capacity", metavar="N", help="Chunks that may be under way at once.", **_number("32")),
    click.option("--max-timeout-ms", metavar="MS", help="Limit for the time of a chunk.", **_number("5000")),
    click.option("--max-memory-mb", metavar="MB", help="Limit for the session's memory.", **_number("100")),
    click.option("--max-audio-samples", metavar="N", help="Limit for a chunk's samples.", **_number("10000000")),
)  # fmt: skip


def job_options(command: F) -> F:
    """Give a command the options that `make_job` takes."""
    return with_options(command, _OPTIONS)


@attrs.frozen
class Job:
    """What to stream through what, and how.

    Attributes:
      file: The audio.
      source: The node to feed.
      out_dir: Where outputs go; None is nowhere.
    """

    file: Path
    manifest: Manifest
    source: str
    pace: Pace
    limits: ResourceLimits
    options: SessionOptions
    out_dir: Path | None
    as_json: bool


def make_job(
    registry: Registry | None = None,
    *,
    file: Path,
    manifest: str | None,
    realtime: bool,
    chunk_ms: float,
    node: str | None,
    sample_format: Any,
    out_dir: Path | None,
    as_json: bool,
    overflow: str,
    max_age_ms: int,
    lean: bool,
    capacity: int,
    max_timeout_ms: int,
    max_memory_mb: int,
    max_audio_samples: int,
) -> Job:
    """Read the manifest and settle what is to be done; the keywords are the options of `job_options`.

    With a registry the manifest is held against it, whole, before anything else is asked; without, a server does it.

    Raises:
      BadInput: the manifest cannot be read, or the source is not one of its sources.
      ManifestInvalid: the manifest has faults; all are listed.
    """
    pipeline = packaged_manifest("default.json") if manifest is None else read_manifest(manifest)
    if registry is not None:
        make_plan(pipeline, registry).close()
    return Job(
        file=file,
        manifest=pipeline,
        source=_choose_source(pipeline, node),
        pace=Pace(chunk_ms, realtime, sample_format),
        limits=ResourceLimits(max_memory_mb * 1_000_000, max_timeout_ms, max_audio_samples),
        options=SessionOptions(capacity, overflow=_OVERFLOWS[overflow], max_age_ms=max_age_ms, lean=lean),
        out_dir=out_dir,
        as_json=as_json,
    )


def _choose_source(manifest: Manifest, asked: str | None) -> str:
    sources = source_ids(manifest)
    listed = ", ".join(map(repr, sources))
    if asked is not None and asked not in sources:
        raise BadInput(f"{asked!r} is not a source of this pipeline; its sources are {listed or 'none'}")
    if asked is None and len(sources) > 1:
        raise BadInput(f"this pipeline has several sources, choose one with --node: {listed}")
    return asked or (sources[0] if sources else "")
