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

_log = logging.getLogger(f"headrace.{__name__}")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 50051


@attrs.frozen(kw_only=True)
class Settings:
    """What an operator may choose.

    Attributes:
      registry: Node type → class.
      listen: Where to.
      reuse_port: Share TCP ports with other servers.
      maxima: What clients' limits are clamped to.
      limits: Of the transport.
      tls: The files for it; None is none.
      auth_tokens: The file of who may call; None is everybody.
      max_sessions: At a time; 0 is any number.
      max_sessions_per_token: The same for each.
      session_idle_timeout_s: How long a session may be without a request; 0 is for ever.
      drain_timeout_s: What running calls get to end in, when the server is told to stop.
      worker_threads: Calls of nodes in threads that run at once; others wait.
      max_abandoned_calls: Such calls of cancelled sessions; while so many still run, no session is admitted.
      watchdog_ms: Inline nodes that hold the event loop for longer are named; 0 names none.
      debug_errors: Send stack traces and the text of unexpected exceptions to clients.
      reflection: Tell the schema to those who ask.
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
            _log.warning("the file of tokens is empty: nobody can call")

    def reload(self) -> None:
        """Each by itself: what cannot be read stays as it was."""
        files: dict[str, TokenFile | Tls | None] = {"tokens": self.tokens, "certificates": self.tls}
        for name, file in files.items():
            if file is None:
                continue
            try:
                file.reload()
            except (BadTokenFile, BadTlsFiles) as error:
                _log.error("SIGHUP: the %s stay as they were: %s", name, error)
            else:
                _log.info("SIGHUP: the %s were read again", name)
        self.warn()
