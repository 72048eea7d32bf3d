"""`headrace version`: this program's version, and a server's."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import click
import trio

from engine.cli.commands import Command
from engine.cli.connecting import Where, make_where, where_options
from engine.cli.report import print_json
from engine.cli.terminal import printable
from transport.client import Version
from transport.service.versions import PROTOCOL, runtime_version

__all__ = ["version"]


@click.command(
    cls=Command,
    short_help="Tell the version, and a server's.",
    example="headrace version --address 127.0.0.1:50051",
    exits="0; 1 no server answers, or it is not compatible.",
)
@click.option("--address", metavar="ADDRESS", help="Ask this server too: HOST:PORT or unix:PATH.")
@where_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def version(address: str | None, as_json: bool, **how: Any) -> None:
    """Say which version this is, and what a server is: a quick way to see whether it answers."""
    told = None if address is None else trio.run(_ask, make_where(address, **how))
    if as_json:
        about = {"version": runtime_version(), "protocol": PROTOCOL}
        print_json({**about, "server": attrs.asdict(told) if told else None})
    else:
        click.echo(f"headrace {runtime_version()}, protocol {PROTOCOL}")
        if told is not None:
            click.echo(_told(str(address), told))
    sys.exit(0 if told is None or told.compatible else 1)


async def _ask(where: Where) -> Version:
    async with where.connect() as client:
        return await client.get_version(PROTOCOL)


def _told(address: str, told: Version) -> str:
    compatible = "compatible" if told.compatible else f"not compatible: {told.message}"
    return printable(
        f"{address}  headrace {told.runtime}, protocol {told.protocol}, {compatible}, built {told.build}\n"
        f"node types: {', '.join(told.node_types)}"
    )
