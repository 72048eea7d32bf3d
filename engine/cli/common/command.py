"""Base classes of the commands: the form of their help, and errors without tracebacks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from engine.cli.common.terminal import print_json, printable
from headrace_startup import exit_interrupted

__all__ = ["STREAM_EXITS", "Command", "Group", "with_options"]

F = TypeVar("F", bound=Callable[..., Any])

STREAM_EXITS = (
    "0 success; 1 the stream failed, or a chunk had an error; 2 the command line, the audio file or the manifest cannot"
    " be used; 130 after Ctrl-C."
)


class Explained(click.Command):
    """Command whose help shows the defaults and ends with the exit codes and an example.

    Args:
      example: A command line to type as it is.
      exits: Meaning of the exit codes.
    """

    def __init__(self, *args: Any, example: str = "", exits: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"show_default": True, "help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self._endings = {"Exit codes": exits, "Example": example}

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes and the example."""
        for heading, text in self._endings.items():
            if text:
                with formatter.section(heading):
                    formatter.write_text(text)


class Group(Explained, click.Group):
    """Command with subcommands."""


class Command(Explained):
    """Command that reports an expected error in a message instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that `explain` knows ends it with a message and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would end it with exit code 1
            exit_interrupted()
        except Exception as error:
            from engine.cli.common.explanations import explain  # here, because it loads many libraries

            explained = explain(error)
            if explained is None:
                raise
        if ctx.params.get("as_json"):
            print_json({"type": "error", "message": explained[0]})
        click.echo(f"Error: {printable(explained[0])}", err=True)
        sys.exit(explained[1])


def with_options(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Add options to a command; its help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command
