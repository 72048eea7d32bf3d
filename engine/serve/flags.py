"""Options of the command `serve`, and the `Settings` made from their values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from engine.catalogue.discovery import Discovered, discover
from engine.limits import ResourceLimits
from engine.manifest.plan import Registry
from engine.serve.settings import DEFAULT_HOST, DEFAULT_PORT, Settings
from nodes.registry import with_directories
from transport.grpc.addresses import Address, Descriptor, TcpAddress, parse_address
from transport.grpc.limits import Limits
from transport.grpc.tls import TlsFiles

__all__ = ["DIRECTORY_OPTIONS", "OPTIONS", "PLUGIN_OPTIONS", "allowed_nodes", "settings_of"]

_log = logging.getLogger(f"headrace.{__name__}")


def _seconds(name: str, default: float, text: str) -> Callable[[Any], Any]:
    return click.option(name, default=default, type=click.FloatRange(0), help=f"{text} (seconds; 0 disables).")


def _count(name: str, default: int, text: str, least: int = 1) -> Callable[[Any], Any]:
    return click.option(name, default=default, type=click.IntRange(least), help=text)


def _file(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=text)


def _directory(name: str, text: str, *, writable: bool = False) -> Callable[[Any], Any]:
    kind = click.Path(path_type=Path, exists=True, file_okay=False, writable=writable)
    return click.option(name, type=kind, metavar="DIR", help=text)


_LIMITS = Limits()

DIRECTORY_OPTIONS = (
    _directory("--recordings", "Directory for Recorder nodes, which need this option.", writable=True),
    _count("--max-recordings-mb", 10_000, "Refuse new recordings once --recordings holds this much.", 0),
    _directory("--media", "Directory that Player nodes read from; they need this option."),
)

PLUGIN_OPTIONS = (
    click.option(
        "--nodes", "node_files", multiple=True, metavar="FILE.py", type=click.Path(path_type=Path), show_default=False,
        help="Also load the nodes that this Python file defines; repeatable.",
    ),
    click.option("--strict-plugins", is_flag=True, help="Fail if a plugin cannot be used, instead of leaving it out."),
)  # fmt: skip

OPTIONS = (
    click.option("--host", help=f"Address to listen on.  [default: {DEFAULT_HOST}]"),
    click.option("--port", type=click.IntRange(0, 65535), help=f"Port; 0 picks a free one.  [default: {DEFAULT_PORT}]"),
    click.option(
        "--listen", multiple=True, metavar="ADDRESS", show_default=False,
        help="HOST:PORT, [IPV6]:PORT, :PORT (all interfaces) or unix:PATH, instead of --host and --port; repeatable.",
    ),
    click.option(
        "--fd", "fds", multiple=True, type=click.IntRange(0), metavar="N", show_default=False,
        help="Descriptor of a listening socket inherited from the parent process; repeatable.",
    ),
    click.option("--reuse-port", is_flag=True, help="Share TCP ports with other servers that set this option too."),
    _file("--tls-cert", "Certificate chain (PEM); enables TLS. Reloaded on SIGHUP."),
    _file("--tls-key", "Private key of --tls-cert (PEM), without a passphrase. Reloaded on SIGHUP."),
    _file("--tls-client-ca", "Require client certificates signed by these authorities (PEM)."),
    _file("--auth-tokens", "Tokens that clients may use: lines NAME:SHA256, see headrace token. Reloaded on SIGHUP."),
    _count("--max-memory-mb", 1000, "Highest memory limit that a session may have."),
    _count("--max-timeout-ms", 30_000, "Highest time limit that a session may have."),
    _count("--max-audio-samples", 100_000_000, "Highest limit of samples in one chunk or input."),
    _count("--max-message-mb", 32, "Largest gRPC message (MiB)."),
    _count("--max-large-messages-mb", 256, "Total size of messages beyond their streams' windows (MiB).", 0),
    _count("--max-sessions", 2000, "Concurrent sessions; 0 means no limit.", 0),
    _count("--max-sessions-per-token", 0, "Concurrent sessions for each token name; 0 means no limit.", 0),
    _count("--max-connections", _LIMITS.max_connections, "Concurrent connections."),
    click.option(
        "--max-streams-per-connection", "--max-streams", "max_streams", default=_LIMITS.max_streams,
        type=click.IntRange(1), help="Concurrent calls on one connection.",
    ),
    _seconds("--tls-handshake-timeout", _LIMITS.tls_handshake_timeout_s, "Time limit for a TLS handshake"),
    _seconds("--preface-timeout", _LIMITS.preface_timeout_s, "Time limit for a client's HTTP/2 preface"),
    _seconds("--settings-timeout", _LIMITS.settings_timeout_s, "Time limit for a client to acknowledge our SETTINGS"),
    _seconds("--frame-timeout", _LIMITS.frame_timeout_s, "Time limit for receiving one frame or header block"),
    _seconds("--message-timeout", _LIMITS.message_timeout_s, "Time limit for receiving one message"),
    _seconds("--idle-timeout", _LIMITS.idle_timeout_s, "Close a connection that has had no calls for this long"),
    _seconds("--session-idle-timeout", 600.0, "Close a session that has received nothing for this long"),
    _seconds("--keepalive-interval", _LIMITS.keepalive_interval_s, "Ping a client that has been silent for this long"),
    _seconds("--keepalive-timeout", _LIMITS.keepalive_timeout_s, "Disconnect a client silent this long after a ping"),
    _seconds("--write-timeout", _LIMITS.write_timeout_s, "Disconnect a client that reads nothing for this long"),
    click.option(
        "--drain-timeout", default=5.0, type=click.FloatRange(0),
        help="Time that running calls have to end after SIGINT or SIGTERM (seconds).",
    ),
    *PLUGIN_OPTIONS,
    *DIRECTORY_OPTIONS,
    _count("--worker-threads", 16, "Concurrent calls of nodes in threads; further calls wait."),
    _count("--max-abandoned-calls", 8, "Admit no session while this many thread calls of cancelled sessions run."),
    click.option(
        "--watchdog-ms", default=20.0, type=click.FloatRange(0),
        help="Report inline nodes that block the event loop for longer; 0 disables.",
    ),
    click.option("--reflection/--no-reflection", default=True, help="Serve gRPC reflection."),
    click.option(
        "--debug-errors", is_flag=True, help="Send stack traces and the texts of unexpected exceptions to clients."
    ),
    click.option(
        "--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
        help="Least severe messages to log.",
    ),
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
        raise click.UsageError("use either --host and --port, or --listen and --fd: not both")
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
    """Return the nodes that come with Headrace, as the values of `DIRECTORY_OPTIONS` allow them."""
    return with_directories(recordings=recordings, media=media, max_recordings_bytes=max_recordings_mb * 1_000_000)


def _registry(found: Discovered, strict: bool) -> Registry:
    if found.faults and strict:
        raise click.ClickException("plugins cannot be used:\n" + "\n".join(map(str, found.faults)))
    for fault in found.faults:
        _log.error("plugin left out: %s", fault)
    for node_type, origin in found.origins.items():
        _log.info("node type %s: %s", node_type, origin)
    return found.registry


def _transport_limits(flags: dict[str, Any]) -> Limits:
    return Limits(
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
    )


def settings_of(flags: dict[str, Any]) -> Settings:
    """Make the server's settings from the values of `OPTIONS`.

    Raises:
      click.ClickException: options contradict one another, or with `--strict-plugins` a plugin cannot be used.
    """
    builtin = allowed_nodes(flags["recordings"], flags["max_recordings_mb"], flags["media"])
    return Settings(
        registry=_registry(discover(builtin, flags["node_files"]), flags["strict_plugins"]),
        listen=_listen(flags),
        reuse_port=flags["reuse_port"],
        maxima=ResourceLimits(flags["max_memory_mb"] * 1_000_000, flags["max_timeout_ms"], flags["max_audio_samples"]),
        limits=_transport_limits(flags),
        tls=_tls(flags),
        auth_tokens=flags["auth_tokens"],
        max_sessions=flags["max_sessions"],
        max_sessions_per_token=flags["max_sessions_per_token"],
        session_idle_timeout_s=flags["session_idle_timeout"],
        drain_timeout_s=flags["drain_timeout"],
        worker_threads=flags["worker_threads"],
        max_abandoned_calls=flags["max_abandoned_calls"],
        watchdog_ms=flags["watchdog_ms"],
        debug_errors=flags["debug_errors"],
        reflection=flags["reflection"],
    )
