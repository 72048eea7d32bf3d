"""The command line: `headrace`, or `python -m engine`."""

from __future__ import annotations

import click

from engine.cli.authoring import node
from engine.cli.demo import demo
from engine.cli.graph import graph
from engine.cli.nodes import nodes
from engine.cli.run import run
from engine.cli.schema import schema
from engine.cli.serve import serve
from engine.cli.stream import stream
from engine.cli.terminal import tolerate_encodings
from engine.cli.token import token
from engine.cli.validate import validate
from engine.cli.version import version
from transport.service.versions import runtime_version

__all__ = ["main"]


_BEGINNINGS = {
    "headrace demo": "watch speech stream through a pipeline",
    "headrace nodes": "what pipelines are made of",
    "headrace run talk.wav": "a file of yours, in this process",
    "headrace serve": "a server, for `headrace stream` and others",
}


class _Group(click.Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("To begin with"):
            formatter.write_dl(list(_BEGINNINGS.items()))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(runtime_version(), prog_name="headrace")
def main() -> None:
    """Stream audio through a graph of nodes, here or on a server, chunk by chunk."""
    tolerate_encodings()


for command in (demo, run, stream, serve, nodes, node, validate, graph, schema, token, version):
    main.add_command(command)
