"""The server's settings, and the files of certificates and tokens that they name."""

from __future__ import annotations

import logging
from pathlib import Path

import attrs

from engine.limits import DEFAULT_MAXIMA, ResourceLimits
from engine.manifest.plan import Registry
from nodes.registry import BUILTIN
from transport.grpc.addresses import Address, TcpAddress
from transport.grpc.limits import Limits
from transport.grpc.tls import BadTlsFiles, Tls, TlsFiles
from transport.server.tokens import BadTokenFile, TokenFile

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "Files", "Settings"]

_log = logging.getLogger(f"headrace.{__name__}")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 50051


@attrs.frozen(kw_only=True)
class Settings:
    """The operator's choices.

    Attributes:
      registry: Node type → class.
      listen: Addresses to listen on.
      reuse_port: Share TCP ports with other servers.
      maxima: Upper bounds, to which clients' limits are clamped.
      limits: The transport's limits.
      tls: Certificate files; None serves without TLS.
      auth_tokens: File of tokens that clients may use; None admits every client.
      max_sessions: Concurrent sessions; 0 means no limit.
      max_sessions_per_token: Concurrent sessions for each token name; 0 means no limit.
      session_idle_timeout_s: Time that a session may spend without a request; 0 means no limit.
      drain_timeout_s: Time that running calls have to end when the server drains.
      worker_threads: Concurrent calls of nodes in threads; further calls wait.
      max_abandoned_calls: While this many thread calls of cancelled sessions still run, no session is admitted.
      watchdog_ms: Inline nodes that hold the event loop for longer are reported; 0 disables this.
      debug_errors: Send stack traces and the texts of unexpected exceptions to clients.
      reflection: Serve gRPC reflection.
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
    worker_threads: int = 16
    max_abandoned_calls: int = 8
    watchdog_ms: float = 20.0
    debug_errors: bool = False
    reflection: bool = True


class Files:
    """The loaded certificates and tokens, reloaded on SIGHUP.

    Raises:
      BadTlsFiles, BadTokenFile: a file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        tokens, tls = settings.auth_tokens, settings.tls
        timeout_s = settings.limits.tls_handshake_timeout_s
        self.tokens = None if tokens is None else TokenFile(tokens)
        self.tls = None if tls is None else Tls(tls, handshake_timeout_s=timeout_s)
        self.warn()

    def warn(self) -> None:
        """Log a warning if the token file is empty, because the operator may not have meant that."""
        if self.tokens and not self.tokens.tokens.names:
            _log.warning("the token file is empty: all calls except health checks will be refused")

    def reload(self) -> None:
        """Reload tokens and certificates independently; those that cannot be loaded stay as they were."""
        files: dict[str, TokenFile | Tls | None] = {"tokens": self.tokens, "certificates": self.tls}
        for name, file in files.items():
            if file is None:
                continue
            try:
                file.reload()
            except (BadTokenFile, BadTlsFiles) as error:
                _log.error("SIGHUP: cannot reload the %s, which stay as they were: %s", name, error)
            else:
                _log.info("SIGHUP: reloaded the %s", name)
        self.warn()
