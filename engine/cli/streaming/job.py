"""Options that `stream` and `run` share, and the job that they describe."""

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
    """Settings of an option whose 0 means the service's default, which the help shows as `default`."""
    return {"default": 0, "type": click.IntRange(0), "show_default": default}


_OPTIONS = (
    click.argument("file", type=click.Path(path_type=Path)),
    click.option(
        "-m", "--manifest", metavar="PATH",
        help="Manifest of the pipeline, a JSON file; - is standard input.",
        show_default="resample to 16 kHz, find speech, measure the level",
    ),
    click.option("--realtime", is_flag=True, help="Send at a microphone's pace, not as fast as the session takes it."),
    click.option("--chunk-ms", default=20.0, metavar="MS", type=click.FloatRange(1, 10_000), help="Length of a chunk."),
    click.option("--node", metavar="ID", help="Source to send the audio to.", show_default="the only one"),
    click.option("--format", "sample_format", default="f32", type=click.Choice(["f32", "i16"]), help="Sample format."),
    click.option(
        "--out-dir", metavar="DIR", type=click.Path(path_type=Path),
        help="Write the nodes' outputs here: audio to ID.wav, data to ID.jsonl.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line."),
    click.option("--overflow", default="block", type=click.Choice(list(_OVERFLOWS)), help="Policy of a full session."),
    click.option("--max-age-ms", metavar="MS", help="Drop chunks that have waited longer.", **_number("never")),
    click.option("--lean", is_flag=True, help="Ask for results without per-node figures."),
    click.option("--capacity", metavar="N", help="Most chunks under way at once.", **_number("32")),
    click.option("--max-timeout-ms", metavar="MS", help="Most time for a chunk in the graph.", **_number("5000")),
    click.option("--max-memory-mb", metavar="MB", help="Most memory for the session.", **_number("100")),
    click.option("--max-audio-samples", metavar="N", help="Most samples in a chunk.", **_number("10000000")),
)  # fmt: skip


def job_options(command: F) -> F:
    """Add the options that `make_job` takes to a command."""
    return with_options(command, _OPTIONS)


@attrs.frozen
class Job:
    """Audio file, pipeline and settings of a stream.

    Attributes:
      file: Path of the audio.
      source: Id of the node to send the audio to.
      out_dir: Directory for the outputs; None writes none.
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
    """Read the manifest and make the job; the keywords are the options of `job_options`.

    With a registry, the whole manifest is checked against it first; without one, the server checks it.

    Raises:
      BadInput: the manifest cannot be read, or the source is not one of its sources.
      ManifestInvalid: the manifest has faults; all are listed.
    """
    pipeline = _load_pipeline(manifest, registry)
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


def _load_pipeline(path: str | None, registry: Registry | None) -> Manifest:
    manifest = packaged_manifest("default.json") if path is None else read_manifest(path)
    if registry is not None:
        make_plan(manifest, registry).close()
    return manifest


def _choose_source(manifest: Manifest, asked: str | None) -> str:
    sources = source_ids(manifest)
    listed = ", ".join(map(repr, sources))
    if asked is not None and asked not in sources:
        raise BadInput(f"{asked!r} is not a source of this pipeline; its sources are {listed or 'none'}")
    if asked is None and len(sources) > 1:
        raise BadInput(f"this pipeline has several sources, choose one with --node: {listed}")
    return asked or (sources[0] if sources else "")
