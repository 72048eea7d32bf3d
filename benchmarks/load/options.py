"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import attrs
import click

from benchmarks.load.pipelines import pipeline_script
from benchmarks.load.script import Script
from benchmarks.load.workloads import WORKLOADS, workload
from engine.errors import EngineError
from engine.manifest import Manifest

__all__ = ["Streamed", "numbers_option", "streamed_options"]

F = TypeVar("F", bound=Callable[..., Any])


def numbers_option(name: str, default: str, text: str, kind: type[int] | type[float] = int) -> Callable[[F], F]:
    """Make an option that takes a list of positive numbers, such as 1,10,50."""

    def parse(context: click.Context, option: click.Parameter, value: str) -> tuple[float, ...]:
        try:
            numbers = tuple(kind(each) for each in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) <= 0:
            raise click.BadParameter(f"{value!r} is not a list of positive numbers, such as {default}")
        return numbers

    return click.option(name, default=default, metavar="N,N,...", callback=parse, help=text)


def _manifest(context: click.Context, option: click.Parameter, value: str) -> tuple[str, Manifest]:
    try:
        return value, workload(value)
    except (OSError, EngineError) as error:
        raise click.BadParameter(str(error)) from None


@attrs.frozen
class Streamed:
    """Audio and pipeline of each session.

    Attributes:
      name: Name of the manifest.
      seconds: Seconds of audio; at least two chunks are sent.
      lean: Ask for results without per-node maps.
    """

    name: str
    manifest: Manifest
    seconds: float
    chunk_ms: float
    sample_rate: int
    lean: bool

    @property
    def period_s(self) -> float:
        """Seconds from chunk to chunk, at real pace."""
        return self.chunk_ms / 1000

    def script(self, *, sample_every: int = 0) -> Script:
        """Make the script of a session that keeps one in `sample_every` results; 0 keeps none."""
        return pipeline_script(
            self.manifest,
            chunk_ms=self.chunk_ms,
            chunks=max(2, round(self.seconds / self.period_s)),
            sample_rate=self.sample_rate,
            lean=self.lean,
            sample_every=sample_every,
        )

    def __str__(self) -> str:
        return f"{self.name}, {self.chunk_ms:g} ms chunks"


def streamed_options(
    *, seconds: float, chunk_ms: float = 20.0, manifest: str = "speech"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a decorator that adds the options for `Streamed` to a command, which receives it as `streamed`."""
    options = (
        click.option("--manifest", default=manifest, callback=_manifest, help=f"A file, or {', '.join(WORKLOADS)}."),
        click.option("--seconds", default=seconds, type=click.FloatRange(0.1), help="Seconds of audio in a session."),
        click.option("--chunk-ms", default=chunk_ms, type=click.FloatRange(1, 10_000), help="Length of a chunk."),
        click.option("--sample-rate", default=48_000, type=click.IntRange(1000, 192_000), help="Sample rate, Hz."),
        click.option("--lean/--full", default=True, help="Results without or with per-node maps."),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def call(
            manifest: tuple[str, Manifest],
            seconds: float,
            chunk_ms: float,
            sample_rate: int,
            lean: bool,
            **others: Any,
        ) -> None:
            command(streamed=Streamed(*manifest, seconds, chunk_ms, sample_rate, lean), **others)

        for option in reversed(options):
            call = option(call)
        return call

    return decorate
