"""The server: where nodes, engine and transport are wired together. `python -m engine.serve --help`.

It prints `listening on HOST:PORT` once it is ready to answer. SIGINT or SIGTERM drains: no new calls, running ones get
`--drain-timeout` to end, then they are cancelled. A second signal ends at once. Either way the exit code is 0.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable

import attrs
import click
import trio

from engine.errors import leaves
from engine.host import Engine
from engine.limits import DEFAULT_MAXIMA, ResourceLimits
from nodes.registry import BUILTIN
from transport.limits import Limits
from transport.server import AddressInUse, Server, serve
from transport.service import handlers

__all__ = ["Settings", "main", "run_server"]

log = logging.getLogger("headrace.serve")


@attrs.frozen
class Settings:
    """What an operator may choose.

    Attributes:
      host: address or name to listen on.
      port: 0 picks a free one.
      maxima: what clients' limits are clamped to.
      limits: of the transport.
      drain_timeout_s: what running calls get to end in, when the server is told to stop.
      debug_errors: send stack traces and the text of unexpected exceptions to clients.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    maxima: ResourceLimits = DEFAULT_MAXIMA
    limits: Limits = attrs.field(factory=Limits)
    drain_timeout_s: float = 5.0
    debug_errors: bool = False


async def run_server(settings: Settings, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until `Server.drain` or cancellation.

    Args:
      settings: what to listen on and what to allow.
      task_status: given the server once it is ready to answer.

    Raises:
      AddressInUse: another process listens there.
    """
    engine = Engine(BUILTIN, maxima=settings.maxima)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        await serve(
            handlers(engine, debug_errors=settings.debug_errors),
            host=settings.host,
            port=settings.port,
            limits=settings.limits,
            debug_errors=settings.debug_errors,
            task_status=task_status,
        )
        nursery.cancel_scope.cancel()


async def _serve_until_signal(settings: Settings) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as serving:
                server: Server = await serving.start(run_server, settings)
                _freeze_heap()
                host = f"[{settings.host}]" if ":" in settings.host else settings.host
                print(f"listening on {host}:{server.port}", flush=True)
                stop = serving.cancel_scope.cancel
                watching.start_soon(_drain_on_signal, signals, server, settings.drain_timeout_s, stop)
            watching.cancel_scope.cancel()


async def _drain_on_signal(
    signals: AsyncIterator[int], server: Server, timeout_s: float, stop: Callable[[], None]
) -> None:
    name = signal.Signals(await anext(signals)).name
    log.info("%s: draining %d calls, for at most %g s", name, server.open_calls, timeout_s)
    server.drain(timeout_s)
    name = signal.Signals(await anext(signals)).name
    log.info("%s again: ending at once", name)
    stop()


def _freeze_heap() -> None:
    """Leave what start-up made out of every later garbage collection: shorter pauses."""
    gc.collect()
    gc.freeze()


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=50051, type=click.IntRange(0, 65535), help="Port; 0 picks a free one.")
@click.option(
    "--max-memory-mb", default=1000, type=click.IntRange(1, 1_000_000), help="Most that a session may ask for."
)
@click.option("--max-timeout-ms", default=30_000, type=click.IntRange(1), help="Most that a session may ask for.")
@click.option("--max-audio-samples", default=100_000_000, type=click.IntRange(1), help="Most in one chunk or input.")
@click.option("--max-message-mb", default=32, type=click.IntRange(1, 1024), help="Largest gRPC message.")
@click.option("--max-connections", default=1024, type=click.IntRange(1), help="Connections at a time.")
@click.option("--max-streams", default=1000, type=click.IntRange(1), help="Calls at a time on one connection.")
@click.option(
    "--write-timeout", default=60.0, type=click.FloatRange(0), help="Cut a client that reads nothing, s; 0 is never."
)
@click.option("--drain-timeout", default=5.0, type=click.FloatRange(0), help="For running calls when stopping, s.")
@click.option("--debug-errors", is_flag=True, help="Send stack traces to clients.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def main(
    host: str,
    port: int,
    max_memory_mb: int,
    max_timeout_ms: int,
    max_audio_samples: int,
    max_message_mb: int,
    max_connections: int,
    max_streams: int,
    write_timeout: float,
    drain_timeout: float,
    debug_errors: bool,
    log_level: str,
) -> None:
    """Serve pipelines over gRPC, until Ctrl-C or SIGTERM."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings(
        host=host,
        port=port,
        maxima=ResourceLimits(max_memory_mb * 1_000_000, max_timeout_ms, max_audio_samples),
        limits=Limits(
            max_message_bytes=max_message_mb << 20,
            max_connections=max_connections,
            max_streams=max_streams,
            write_timeout_s=write_timeout,
        ),
        drain_timeout_s=drain_timeout,
        debug_errors=debug_errors,
    )
    failures: list[BaseException] = []
    try:
        trio.run(_serve_until_signal, settings)
    except* OSError as group:
        failures.extend(leaves(group))
    for failure in failures:
        reason = failure.strerror if isinstance(failure, AddressInUse) else f"cannot listen on {host}:{port}: {failure}"
        raise click.ClickException(str(reason))


if __name__ == "__main__":
    main(prog_name="python -m engine.serve")
