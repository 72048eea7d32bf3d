"""What all commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from engine.cli.common.terminal import print_json, printable

__all__ = ["STREAM_EXITS", "Command", "Group", "with_options"]

F = TypeVar("F", bound=Callable[..., Any])

STREAM_EXITS = (
    "0 all went well; 1 something failed while running, or a chunk was refused; 2 the command, a file or the manifest"
    " cannot be used; 130 after Ctrl-C."
)


class Explained(click.Command):
    """A command that shows its defaults, and ends its help with what it is good for.

    Args:
      example: One that can be typed as it is; ends the help.
      exits: What its exit codes mean; ends the help too.
    """

    def __init__(self, *args: Any, example: str = "", exits: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"show_default": True, "help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self._endings = {"Exit codes": exits, "Example": example}

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes and the example."""
        for heading, text in self._endings.items():
            if text:
                with formatter.section(heading):
                    formatter.write_text(text)


class Group(Explained, click.Group):
    """A command that has commands of its own."""


class Command(Explained):
    """A command that says what is wrong instead of showing a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; errors that have an explanation end it with their exit code."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from engine.cli.common.explanations import explain  # loads every library whose errors it knows

            explained = explain(error)
            if explained is None:
                raise
        if ctx.params.get("as_json"):
            print_json({"type": "error", "message": explained[0]})
        click.echo(f"Error: {printable(explained[0])}", err=True)
        sys.exit(explained[1])


def with_options(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Give a command options, in this order in its help."""
    for option in reversed(options):
        command = option(command)
    return command
