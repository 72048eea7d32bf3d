"""`headrace version`: show the version of this program and of a server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import attrs
import click

from engine.cli.common.command import Command
from engine.cli.common.server_options import server_options
from engine.cli.common.terminal import print_json, printable
from transport.service.versions import PROTOCOL, runtime_version

if TYPE_CHECKING:
    from transport.client import Version

__all__ = ["version"]


@click.command(
    cls=Command,
    example="headrace version --address 127.0.0.1:50051",
    exits="0 success; 1 the server does not answer, or is not compatible.",
)
@click.option("--address", metavar="ADDRESS", help="Ask this server for its version too: HOST:PORT or unix:PATH.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def version(address: str | None, as_json: bool, **how: Any) -> None:
    """Show the version of this program and, with --address, of a server: a quick test that it answers."""
    server = None if address is None else _ask(address, how)
    if as_json:
        about = {"version": runtime_version(), "protocol": PROTOCOL}
        print_json({**about, "server": None if server is None else attrs.asdict(server)})
    else:
        click.echo(f"headrace {runtime_version()}, protocol {PROTOCOL}")
        if server is not None:
            click.echo(_description(str(address), server))
    sys.exit(0 if server is None or server.compatible else 1)


def _ask(address: str, how: dict[str, Any]) -> Version:
    """Ask a server for its version. The client and trio are imported here, because only this needs them."""
    import trio

    from engine.cli.common.server import make_target

    where = make_target(address, **how)

    async def ask() -> Version:
        async with where.connect() as client:
            return await client.get_version(PROTOCOL)

    return trio.run(ask)


def _description(address: str, server: Version) -> str:
    compatible = "compatible" if server.compatible else f"not compatible: {server.message}"
    return printable(
        f"{address}  headrace {server.runtime}, protocol {server.protocol}, {compatible}, built {server.build}\n"
        f"node types: {', '.join(server.node_types)}"
    )
