"""The server: where nodes, engine and transport are wired together. `python -m engine.serve --help`.

It prints a line `listening on ADDRESS` for each address once it is ready to answer. SIGINT or SIGTERM drains: no new
calls, running ones get `--drain-timeout` to end, then sessions are closed, so that their tails are delivered, and what
is left is cancelled. A second signal ends at once. Either way the exit code is 0. SIGHUP reads certificates and tokens
again. SIGUSR1 prints a line of JSON: connections, calls, sessions by token's name, refusals.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from engine.discovery import Discovered, discover
from engine.errors import leaves
from engine.graph import Registry
from engine.host import Engine
from engine.limits import DEFAULT_MAXIMA, ResourceLimits
from engine.watchdog import Watchdog
from nodes.registry import BUILTIN, with_directories
from transport.auth import BadTokenFile, TokenFile
from transport.doors import Doors, Rules
from transport.health import Health
from transport.limits import Limits
from transport.listeners import Address, Descriptor, TcpAddress, parse_address
from transport.reflection import Reflection
from transport.server import AddressInUse, AddressUnusable, Server, serve
from transport.service import EXECUTION_SERVICE, SESSION_PATHS, STREAMING_SERVICE, handlers
from transport.tls import BadTlsFiles, Tls, TlsFiles

__all__ = ["DIRECTORY_OPTIONS", "PLUGIN_OPTIONS", "Settings", "allowed_nodes", "main", "run_server"]

log = logging.getLogger("headrace.serve")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 50051


@attrs.frozen(kw_only=True)
class Settings:
    """What an operator may choose.

    Attributes:
      registry: node type → class.
      listen: where to.
      reuse_port: share TCP ports with other servers.
      maxima: what clients' limits are clamped to.
      limits: of the transport.
      tls: the files for it; None is none.
      auth_tokens: the file of who may call; None is everybody.
      max_sessions: at a time; 0 is any number.
      max_sessions_per_token: the same for each.
      session_idle_timeout_s: how long a session may be without a request; 0 is for ever.
      drain_timeout_s: what running calls get to end in, when the server is told to stop.
      watchdog_ms: inline nodes that hold the event loop for longer are named; 0 names none.
      debug_errors: send stack traces and the text of unexpected exceptions to clients.
      reflection: tell the schema to those who ask.
    """

    registry: Registry = BUILTIN
    listen: tuple[Address, ...] = (TcpAddress(DEFAULT_HOST, DEFAULT_PORT),)
    reuse_port: bool = False
    maxima: ResourceLimits = DEFAULT_MAXIMA
    limits: Limits = attrs.field(factory=Limits)
    tls: TlsFiles | None = None
    auth_tokens: Path | None = None
    max_sessions: int = 2000
    max_sessions_per_token: int = 0
    session_idle_timeout_s: float = 600.0
    drain_timeout_s: float = 5.0
    watchdog_ms: float = 20.0
    debug_errors: bool = False
    reflection: bool = True


class _Files:
    """What is read from files, at start and again on SIGHUP; raises BadTlsFiles, BadTokenFile."""

    def __init__(self, settings: Settings) -> None:
        tokens, tls = settings.auth_tokens, settings.tls
        timeout_s = settings.limits.tls_handshake_timeout_s
        self.tokens = None if tokens is None else TokenFile(tokens)
        self.tls = None if tls is None else Tls(tls, handshake_timeout_s=timeout_s)
        self.warn()

    def warn(self) -> None:
        if self.tokens and not self.tokens.tokens.names:
            log.warning("the file of tokens is empty: nobody can call")

    def reload(self) -> None:
        """Each by itself: what cannot be read stays as it was."""
        files: dict[str, TokenFile | Tls | None] = {"tokens": self.tokens, "certificates": self.tls}
        for name, file in files.items():
            if file is None:
                continue
            try:
                file.reload()
            except (BadTokenFile, BadTlsFiles) as error:
                log.error("SIGHUP: the %s stay as they were: %s", name, error)
            else:
                log.info("SIGHUP: the %s were read again", name)
        self.warn()


async def run_server(
    settings: Settings,
    files: _Files | None = None,
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `Server.drain` or cancellation.

    Args:
      settings: what to listen on and what to allow.
      files: what `settings` names, read.
      task_status: given the server once it is ready to answer.

    Raises:
      AddressInUse: another process listens there.
      AddressUnusable: nobody can.
      BadTlsFiles, BadTokenFile.
    """
    files = files or _Files(settings)
    engine = Engine(settings.registry, maxima=settings.maxima, watchdog=Watchdog(settings.watchdog_ms))
    health = Health((EXECUTION_SERVICE, STREAMING_SERVICE))
    service = handlers(engine, debug_errors=settings.debug_errors, idle_timeout_s=settings.session_idle_timeout_s)
    reflection = Reflection().handlers() if settings.reflection else {}
    rules = Rules(
        open_paths=frozenset(health.handlers()),
        session_paths=SESSION_PATHS,
        max_sessions=settings.max_sessions,
        max_sessions_per_token=settings.max_sessions_per_token,
    )
    with engine.watchdog.watching():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.sweep.run)
            await serve(
                {**service, **health.handlers(), **reflection},
                listen=settings.listen,
                reuse_port=settings.reuse_port,
                limits=settings.limits,
                doors=Doors(rules, files.tokens),
                tls=files.tls,
                on_drain=health.shut_down,
                debug_errors=settings.debug_errors,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()


async def _serve_until_signal(settings: Settings, files: _Files) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1) as signals:
        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as serving:
                server: Server = await serving.start(run_server, settings, files)
                _freeze_heap()
                _warn_of_open_tokens(server, files)
                for listener in server.listeners:
                    print(f"listening on {listener.name}", flush=True)
                stop = serving.cancel_scope.cancel
                watching.start_soon(_heed_signals, signals, server, files, settings.drain_timeout_s, stop)
            watching.cancel_scope.cancel()


async def _heed_signals(
    signals: AsyncIterator[int], server: Server, files: _Files, timeout_s: float, stop: Callable[[], None]
) -> None:
    draining = False
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            files.reload()
        elif number == signal.SIGUSR1:
            print(json.dumps(_statistics(server)), flush=True)
        elif draining:
            log.info("%s again: ending at once", name)
            stop()
        else:
            draining = True
            log.info("%s: draining %d calls, for at most %g s", name, server.open_calls, timeout_s)
            server.drain(timeout_s)


def _statistics(server: Server) -> dict[str, Any]:
    counts = {"connections": len(server.connections), "calls": server.open_calls}
    return {**counts, **attrs.asdict(server.doors.statistics())}


def _warn_of_open_tokens(server: Server, files: _Files) -> None:
    if files.tokens is None or files.tls is not None:
        return
    for listener in server.listeners:
        if not listener.is_local:
            log.warning("tokens travel to %s in the clear: use --tls-cert, or a proxy that has TLS", listener.name)


def _freeze_heap() -> None:
    """Leave what start-up made out of every later garbage collection: shorter pauses."""
    gc.collect()
    gc.freeze()


def _seconds(name: str, default: float, text: str) -> Callable[[Any], Any]:
    return click.option(name, default=default, type=click.FloatRange(0), help=f"{text}, s; 0 is never.")


def _count(name: str, default: int, text: str, least: int = 1) -> Callable[[Any], Any]:
    return click.option(name, default=default, type=click.IntRange(least), help=text)


def _file(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=text)


def _directory(name: str, text: str, *, writable: bool = False) -> Callable[[Any], Any]:
    kind = click.Path(path_type=Path, exists=True, file_okay=False, writable=writable)
    return click.option(name, type=kind, metavar="DIR", help=text)


_LIMITS = Limits()

DIRECTORY_OPTIONS = (
    _directory("--recordings", "Where Recorder nodes may write; without it there are none.", writable=True),
    _count("--max-recordings-mb", 10_000, "With so much in it no further recording is begun.", 0),
    _directory("--media", "What Player nodes may read from; without it there are none."),
)

PLUGIN_OPTIONS = (
    click.option(
        "--nodes", "node_files", multiple=True, metavar="FILE.py", type=click.Path(path_type=Path), show_default=False,
        help="Take the nodes that this Python file defines, too; may be repeated.",
    ),
    click.option("--strict-plugins", is_flag=True, help="Do not go on without a plugin that cannot be used."),
)  # fmt: skip

_OPTIONS = (
    click.option("--host", help=f"Address to listen on.  [default: {DEFAULT_HOST}]"),
    click.option("--port", type=click.IntRange(0, 65535), help=f"Port; 0 is a free one.  [default: {DEFAULT_PORT}]"),
    click.option(
        "--listen", multiple=True, metavar="ADDRESS", show_default=False,
        help="HOST:PORT, [IPV6]:PORT, :PORT (all interfaces) or unix:PATH, in place of --host and --port; repeatable.",
    ),
    click.option(
        "--fd", "fds", multiple=True, type=click.IntRange(0), metavar="N", show_default=False,
        help="A listening socket that was handed in; may be repeated.",
    ),
    click.option("--reuse-port", is_flag=True, help="Share TCP ports with other servers that do so too."),
    _file("--tls-cert", "Certificate chain, PEM; TLS is on then. Read again on SIGHUP."),
    _file("--tls-key", "Its key, PEM, without a passphrase."),
    _file("--tls-client-ca", "Clients must have a certificate of these authorities."),
    _file("--auth-tokens", "Who may call: lines NAME:SHA256, see headrace token. Read again on SIGHUP."),
    _count("--max-memory-mb", 1000, "Most that a session may ask for."),
    _count("--max-timeout-ms", 30_000, "Most that a session may ask for."),
    _count("--max-audio-samples", 100_000_000, "Most in one chunk or input."),
    _count("--max-message-mb", 32, "Largest gRPC message."),
    _count("--max-large-messages-mb", 256, "What all messages larger than their windows may hold together.", 0),
    _count("--max-sessions", 2000, "Sessions at a time; 0 is any number.", 0),
    _count("--max-sessions-per-token", 0, "Sessions at a time for one token's name; 0 is any number.", 0),
    _count("--max-connections", _LIMITS.max_connections, "Connections at a time."),
    click.option(
        "--max-streams-per-connection", "--max-streams", "max_streams", default=_LIMITS.max_streams,
        type=click.IntRange(1), help="Calls at a time on one connection.",
    ),
    _seconds("--tls-handshake-timeout", _LIMITS.tls_handshake_timeout_s, "For a TLS handshake"),
    _seconds("--preface-timeout", _LIMITS.preface_timeout_s, "For a client to say that it speaks HTTP/2"),
    _seconds("--settings-timeout", _LIMITS.settings_timeout_s, "For it to acknowledge our SETTINGS"),
    _seconds("--frame-timeout", _LIMITS.frame_timeout_s, "For one frame, or one block of headers, to come in"),
    _seconds("--message-timeout", _LIMITS.message_timeout_s, "For one message to come in"),
    _seconds("--idle-timeout", _LIMITS.idle_timeout_s, "Close a connection without calls after"),
    _seconds("--session-idle-timeout", 600.0, "Close a session to which nothing comes after"),
    _seconds("--keepalive-interval", _LIMITS.keepalive_interval_s, "Ping a silent client after"),
    _seconds("--keepalive-timeout", _LIMITS.keepalive_timeout_s, "For a sign of life after a ping"),
    _seconds("--write-timeout", _LIMITS.write_timeout_s, "Cut a client that reads nothing after"),
    click.option("--drain-timeout", default=5.0, type=click.FloatRange(0), help="For running calls when stopping, s."),
    *PLUGIN_OPTIONS,
    *DIRECTORY_OPTIONS,
    click.option(
        "--watchdog-ms", default=20.0, type=click.FloatRange(0),
        help="Name inline nodes that hold the event loop for longer; 0 names none.",
    ),
    click.option("--reflection/--no-reflection", default=True, help="Tell the schema to tools that ask."),
    click.option("--debug-errors", is_flag=True, help="Send stack traces to clients."),
    click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])),
)  # fmt: skip


def _listen(flags: dict[str, Any]) -> tuple[Address, ...]:
    given: list[Address] = []
    for text in flags["listen"]:
        try:
            given.append(parse_address(text))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--listen") from None
    given += [Descriptor(fd) for fd in flags["fds"]]
    if given and (flags["host"], flags["port"]) != (None, None):
        raise click.UsageError("--host and --port say where to listen; so do --listen and --fd: use one way")
    if given:
        return tuple(given)
    port = DEFAULT_PORT if flags["port"] is None else flags["port"]
    return (TcpAddress((flags["host"] or DEFAULT_HOST).removeprefix("[").removesuffix("]"), port),)


def _tls(flags: dict[str, Any]) -> TlsFiles | None:
    cert, key, client_ca = flags["tls_cert"], flags["tls_key"], flags["tls_client_ca"]
    if (cert is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if cert is None and client_ca is not None:
        raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key")
    return None if cert is None else TlsFiles(cert, key, client_ca)


def allowed_nodes(recordings: Path | None, max_recordings_mb: int, media: Path | None) -> Registry:
    """The nodes that come with Headrace, as the `DIRECTORY_OPTIONS` allow them."""
    return with_directories(recordings=recordings, media=media, max_recordings_bytes=max_recordings_mb * 1_000_000)


def _registry(found: Discovered, strict: bool) -> Registry:
    if found.faults and strict:
        raise click.ClickException("plugins cannot be used:\n" + "\n".join(map(str, found.faults)))
    for fault in found.faults:
        log.error("left out, for it cannot be used: %s", fault)
    for node_type, origin in found.origins.items():
        log.info("node type %s: %s", node_type, origin)
    return found.registry


def _settings(flags: dict[str, Any]) -> Settings:
    builtin = allowed_nodes(flags["recordings"], flags["max_recordings_mb"], flags["media"])
    return Settings(
        registry=_registry(discover(builtin, flags["node_files"]), flags["strict_plugins"]),
        listen=_listen(flags),
        reuse_port=flags["reuse_port"],
        maxima=ResourceLimits(flags["max_memory_mb"] * 1_000_000, flags["max_timeout_ms"], flags["max_audio_samples"]),
        limits=Limits(
            max_message_bytes=flags["max_message_mb"] << 20,
            large_messages_bytes=flags["max_large_messages_mb"] << 20,
            max_connections=flags["max_connections"],
            max_streams=flags["max_streams"],
            tls_handshake_timeout_s=flags["tls_handshake_timeout"],
            preface_timeout_s=flags["preface_timeout"],
            settings_timeout_s=flags["settings_timeout"],
            frame_timeout_s=flags["frame_timeout"],
            message_timeout_s=flags["message_timeout"],
            idle_timeout_s=flags["idle_timeout"],
            keepalive_interval_s=flags["keepalive_interval"],
            keepalive_timeout_s=flags["keepalive_timeout"],
            write_timeout_s=flags["write_timeout"],
        ),
        tls=_tls(flags),
        auth_tokens=flags["auth_tokens"],
        max_sessions=flags["max_sessions"],
        max_sessions_per_token=flags["max_sessions_per_token"],
        session_idle_timeout_s=flags["session_idle_timeout"],
        drain_timeout_s=flags["drain_timeout"],
        watchdog_ms=flags["watchdog_ms"],
        debug_errors=flags["debug_errors"],
        reflection=flags["reflection"],
    )


def _main(**flags: Any) -> None:
    """Serve pipelines over gRPC, until Ctrl-C or SIGTERM."""
    logging.basicConfig(level=flags["log_level"], format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _settings(flags)
    try:
        files = _Files(settings)
    except (BadTlsFiles, BadTokenFile) as error:
        raise click.ClickException(str(error)) from None
    failures: list[BaseException] = []
    try:
        trio.run(_serve_until_signal, settings, files)
    except* OSError as group:
        failures.extend(leaves(group))
    for failure in failures:
        known = isinstance(failure, (AddressInUse, AddressUnusable))
        raise click.ClickException(str(failure.strerror if known else f"cannot listen: {failure}"))  # type: ignore[attr-defined]


main = click.Command(
    "serve",
    params=[],
    callback=_main,
    help=_main.__doc__,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
for option in _OPTIONS:
    option(main)


if __name__ == "__main__":
    main(prog_name="python -m engine.serve")
