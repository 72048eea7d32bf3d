"""What an operator chooses, and what is read from the files that are named there."""

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
      worker_threads: calls of nodes in threads that run at once; others wait.
      max_abandoned_calls: such calls of cancelled sessions; while so many still run, no session is admitted.
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
    worker_threads: int = 16
    max_abandoned_calls: int = 8
    watchdog_ms: float = 20.0
    debug_errors: bool = False
    reflection: bool = True


class Files:
    """What is read from files, at start and again on SIGHUP; raises BadTlsFiles, BadTokenFile."""

    def __init__(self, settings: Settings) -> None:
        tokens, tls = settings.auth_tokens, settings.tls
        timeout_s = settings.limits.tls_handshake_timeout_s
        self.tokens = None if tokens is None else TokenFile(tokens)
        self.tls = None if tls is None else Tls(tls, handshake_timeout_s=timeout_s)
        self.warn()

    def warn(self) -> None:
        """Say what an operator may not have meant."""
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
