"""TLS for the server's connections: a context from files, a handshake within its time.

Rules kept here:
- What is wrong with the files is found before the server listens, and told by the file's name.
- A peer that does not settle on HTTP/2 by ALPN is none of ours (RFC 9113, 3.2).
- New files serve new connections; those that are open go on with what they have.
"""

from __future__ import annotations

import math
import ssl
from pathlib import Path

import trio
from attrs import field, frozen

__all__ = ["HTTP2_ALPN", "BadTlsFiles", "ClientTls", "HandshakeFailed", "Tls", "TlsFiles", "reason_of"]

HTTP2_ALPN = "h2"


class BadTlsFiles(ValueError):
    """A certificate or key cannot be used; the message says which and why."""


class HandshakeFailed(Exception):
    """The peer does not speak TLS as we do, or not in time."""


@frozen
class TlsFiles:
    """Where certificate chain and key lie, PEM; with `client_ca`, every client has to have a certificate of its."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def make_context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
          BadTlsFiles.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9113, 9.2.1
        context.set_alpn_protocols([HTTP2_ALPN])
        self._load_chain(context)
        if self.client_ca is not None:
            self._load_client_ca(context, self.client_ca)
        return context

    def _load_chain(self, context: ssl.SSLContext) -> None:
        for path in (self.cert, self.key):
            _check_readable(path)
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except _EncryptedKey:
            raise BadTlsFiles(f"{self.key}: the key is encrypted; it has to be without a passphrase") from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise BadTlsFiles(f"{self.key} is not the key of the certificate in {self.cert}") from None
            raise BadTlsFiles(
                f"{self.cert} and {self.key}: not a PEM certificate with its key ({reason_of(error)})"
            ) from None

    def _load_client_ca(self, context: ssl.SSLContext, path: Path) -> None:
        _check_readable(path)
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise BadTlsFiles(f"{path}: no PEM certificate ({reason_of(error)})") from None
        context.verify_mode = ssl.CERT_REQUIRED


@frozen
class ClientTls:
    """How to make a connection secure; files are PEM.

    Attributes:
      ca: Whose certificates to believe; None is those that this system believes.
      cert: This client's own certificate chain, for a server that wants one; with `key`.
      server_name: What the server's certificate has to say; empty is the host of the address.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = field(default=None)
    server_name: str = ""

    @key.validator
    def _both_or_none(self, _: object, value: Path | None) -> None:
        if (value is None) != (self.cert is None):
            raise BadTlsFiles("a client's certificate and its key go together")

    def make_context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
          BadTlsFiles.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadTlsFiles(f"{self.ca}: no PEM certificates ({reason_of(error)})") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([HTTP2_ALPN])
        if self.cert is not None and self.key is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=lambda: "")  # else it asks at the terminal
            except (OSError, ssl.SSLError) as error:
                reason = f"{self.cert} and {self.key}: not a PEM certificate with its key ({reason_of(error)})"
                raise BadTlsFiles(reason) from None
        return context


class Tls:
    """What connections are shaken hands with; raises BadTlsFiles.

    Attributes:
      handshake_timeout_s: 0 is never.
    """

    def __init__(self, files: TlsFiles, *, handshake_timeout_s: float = 10.0) -> None:
        self._files = files
        self._context = files.make_context()
        self.handshake_timeout_s = handshake_timeout_s

    def reload(self) -> None:
        """Read the files again, for connections to come; what was read before stays in force if that fails.

        Raises:
          BadTlsFiles.
        """
        self._context = self._files.make_context()

    async def shake_hands(self, transport: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
        """Make a stream secure; if that fails, it is closed.

        Raises:
          HandshakeFailed.
        """
        stream = trio.SSLStream(transport, self._context, server_side=True)
        try:
            with trio.fail_after(self.handshake_timeout_s or math.inf):
                await stream.do_handshake()
            if stream.selected_alpn_protocol() != HTTP2_ALPN:
                raise HandshakeFailed("the peer did not ask for HTTP/2 by ALPN")
        except BaseException as error:
            await trio.aclose_forcefully(transport)
            if isinstance(error, trio.TooSlowError):
                raise HandshakeFailed(f"no TLS handshake within {self.handshake_timeout_s:g} s") from None
            if isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError)):
                raise HandshakeFailed(reason_of(error.__cause__ or error)) from None
            raise
        return stream


class _EncryptedKey(Exception):
    pass


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise _EncryptedKey


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadTlsFiles(f"{path}: {error.strerror}") from None


def reason_of(error: BaseException) -> str:
    """Say in a few words why a file, a handshake or a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not believed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, OSError) and isinstance(error.__cause__, BaseExceptionGroup):
        return reason_of(error.__cause__.exceptions[0])
    if text := str(getattr(error, "strerror", None) or error):
        return text
    is_gone = isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError))
    return "the connection broke" if is_gone else type(error).__name__
