"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from benchmarks.workloads import WORKLOADS, workload
from engine.errors import EngineError
from engine.manifest import Manifest

__all__ = ["numbers_option", "workload_options"]

F = TypeVar("F", bound=Callable[..., Any])


def numbers_option(name: str, default: str, text: str, kind: type[int] | type[float] = int) -> Callable[[F], F]:
    """An option that takes a list of positive numbers, such as 1,10,50."""

    def parse(context: click.Context, option: click.Parameter, value: str) -> tuple[float, ...]:
        try:
            numbers = tuple(kind(each) for each in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) <= 0:
            raise click.BadParameter(f"{value!r} is no list of positive numbers, such as {default}")
        return numbers

    return click.option(name, default=default, metavar="N,N,...", callback=parse, help=text)


def _manifest(context: click.Context, option: click.Parameter, value: str) -> tuple[str, Manifest]:
    try:
        return value, workload(value)
    except (OSError, EngineError) as error:
        raise click.BadParameter(str(error)) from None


def workload_options(default: str, chunk_ms: float = 20.0) -> Callable[[F], F]:
    """Options for what is streamed: `manifest` (its name and the manifest), `chunk_ms`, `sample_rate` and `lean`."""
    options = (
        click.option("--manifest", default=default, callback=_manifest, help=f"A file, or {', '.join(WORKLOADS)}."),
        click.option("--chunk-ms", default=chunk_ms, type=click.FloatRange(1, 10_000), help="Length of a chunk."),
        click.option("--sample-rate", default=48_000, type=click.IntRange(1000, 192_000), help="Of the audio, Hz."),
        click.option("--lean/--full", default=True, help="Results without or with per-node maps."),
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
