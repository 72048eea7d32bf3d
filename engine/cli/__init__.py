"""The command line: `headrace`, or `python -m engine`.

A command's module is imported when that command runs, so `--help` and the quick commands load neither the server nor
trio nor NumPy.
"""

from __future__ import annotations

import click

from engine.cli.common.terminal import tolerate_encodings
from headrace_startup import load

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "Watch speech stream through a pipeline.",
    "run": "Run an audio file through a pipeline in this process.",
    "stream": "Stream an audio file to a server.",
    "serve": "Serve pipelines over gRPC.",
    "nodes": "List node types, or describe one.",
    "node": "Create a node of your own, or check nodes.",
    "validate": "Check a manifest.",
    "graph": "Draw a pipeline.",
    "schema": "Print the JSON Schema of manifests.",
    "token": "Make bearer tokens for a server that requires them.",
    "version": "Show the version of this program and of a server.",
}
"""Command → its summary in `headrace --help`. The command NAME is the object `NAME` of the module `engine.cli.NAME`."""

_FIRST_STEPS = {
    "headrace demo": "watch speech stream through a pipeline",
    "headrace nodes": "list the node types that pipelines are made of",
    "headrace run talk.wav": "run a file of yours through a pipeline",
    "headrace serve": "start a server, for `headrace stream` and others",
}


class _LazyGroup(click.Group):
    """Group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(load(f"engine.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("First steps"):
            formatter.write_dl(list(_FIRST_STEPS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace", prog_name="headrace")
def main() -> None:
    """Stream audio through a graph of nodes, chunk by chunk, in this process or on a server."""
    tolerate_encodings()
