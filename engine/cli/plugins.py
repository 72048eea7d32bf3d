"""The options by which commands take nodes that do not come with Headrace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.cli.failures import BadInput
from engine.cli.terminal import printable
from engine.discovery import Discovered, discover
from engine.graph import Registry
from engine.serve import DIRECTORY_OPTIONS, PLUGIN_OPTIONS
from nodes.registry import BUILTIN

__all__ = ["directory_options", "find_nodes", "plugin_options"]

F = TypeVar("F", bound=Callable[..., Any])


def plugin_options(command: F) -> F:
    """Give a command the options that `find_nodes` takes."""
    for option in reversed(PLUGIN_OPTIONS):
        command = option(command)
    return command


def directory_options(command: F) -> F:
    """Give a command the options that `engine.serve.allowed_nodes` takes."""
    for option in reversed(DIRECTORY_OPTIONS):
        command = option(command)
    return command


def find_nodes(node_files: Sequence[Path], strict_plugins: bool, builtin: Registry = BUILTIN) -> Discovered:
    """The nodes that come with Headrace, those that are installed, and those of files.

    What cannot be used is told on standard error.

    Raises:
      BadInput: there is such a plugin, and `strict_plugins`.
    """
    found = discover(builtin, node_files)
    if found.faults and strict_plugins:
        raise BadInput("plugins cannot be used:\n" + "\n".join(map(str, found.faults)))
    for fault in found.faults:
        click.echo(f"Warning: left out: {printable(str(fault))}", err=True)
    return found
