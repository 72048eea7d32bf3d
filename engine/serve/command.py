"""The command `serve`: turn flags into settings, configure logging, run the server, and set the exit code."""

from __future__ import annotations

import logging
from typing import Any

import click
import trio

from engine.errors import leaves
from engine.serve import heap
from engine.serve.flags import OPTIONS, settings_of
from engine.serve.running import serve_until_signal
from engine.serve.settings import Files
from transport.grpc.tls import BadTlsFiles
from transport.server import AddressInUse, AddressUnusable
from transport.server.tokens import BadTokenFile

__all__ = ["main"]


def _main(**flags: Any) -> None:
    """Serve pipelines over gRPC until Ctrl-C or SIGTERM."""
    logging.basicConfig(level=flags["log_level"], format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = settings_of(flags)
    try:
        files = Files(settings)
    except (BadTlsFiles, BadTokenFile) as error:
        raise click.ClickException(str(error)) from None
    failures: list[BaseException] = []
    heap.return_large_blocks()
    try:
        trio.run(serve_until_signal, settings, files)
    except* OSError as group:
        failures.extend(leaves(group))
    for failure in failures:
        if isinstance(failure, (AddressInUse, AddressUnusable)):
            raise click.ClickException(str(failure.strerror))
        raise click.ClickException(f"cannot listen: {failure}")


main = click.Command(
    "serve",
    params=[],
    callback=_main,
    help=_main.__doc__,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
for option in OPTIONS:
    option(main)
