"""Options that define the available nodes: plugins to load, and directories that built-in nodes may open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.catalogue.discovery import Discovered, discover
from engine.cli.common.command import with_options
from engine.cli.common.failures import BadInput
from engine.cli.common.terminal import printable
from engine.manifest.plan import Registry
from engine.serve.flags import DIRECTORY_OPTIONS, PLUGIN_OPTIONS, allowed_nodes
from nodes.registry import BUILTIN

__all__ = ["find_nodes", "plugin_options", "registry_options"]

F = TypeVar("F", bound=Callable[..., Any])


def plugin_options(command: F) -> F:
    """Add the options for plugins, which `find_nodes` takes, to a command."""
    return with_options(command, PLUGIN_OPTIONS)


def registry_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that define the available nodes to a command, which receives these nodes as `registry`."""

    @wraps(command)
    def call(
        node_files: Sequence[Path],
        strict_plugins: bool,
        recordings: Path | None,
        max_recordings_mb: int,
        media: Path | None,
        **others: Any,
    ) -> None:
        allowed = allowed_nodes(recordings, max_recordings_mb, media)
        command(registry=find_nodes(node_files, strict_plugins, allowed).registry, **others)

    return with_options(call, (*PLUGIN_OPTIONS, *DIRECTORY_OPTIONS))


def find_nodes(node_files: Sequence[Path], strict_plugins: bool, builtin: Registry = BUILTIN) -> Discovered:
    """Find the nodes that come with Headrace, those of installed packages, and those of `node_files`.

    A plugin that cannot be used is reported on standard error and left out.

    Raises:
      BadInput: a plugin cannot be used, and `strict_plugins` is set.
    """
    found = discover(builtin, node_files)
    if found.faults and strict_plugins:
        raise BadInput("plugins cannot be used:\n" + "\n".join(map(str, found.faults)))
    for fault in found.faults:
        click.echo(f"Warning: plugin left out: {printable(str(fault))}", err=True)
    return found
