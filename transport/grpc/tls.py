"""TLS for connections: contexts made from files, and the server's handshake with its timeout.

Rules kept here:
- Faulty files are found before the server listens, and reported by file name.
- A peer that does not agree on HTTP/2 by ALPN is refused (RFC 9113, 3.2).
- Reloaded files apply to new connections; open ones keep the old certificate.
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
    """A certificate or key that cannot be used; the message names the file and the reason."""


class HandshakeFailed(Exception):
    """The TLS handshake failed or took too long."""


@frozen
class TlsFiles:
    """PEM files of a server.

    Attributes:
      cert: Certificate chain.
      key: Its private key, without a passphrase.
      client_ca: CA certificates; every client must present a certificate signed by one of them. None asks for none.
    """

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
            raise BadTlsFiles(f"{self.key}: the key is encrypted; it must have no passphrase") from None
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
            raise BadTlsFiles(f"{path}: not a PEM certificate ({reason_of(error)})") from None
        context.verify_mode = ssl.CERT_REQUIRED


@frozen
class ClientTls:
    """TLS settings of a client; the files are PEM.

    Attributes:
      ca: CA certificates to trust; None means those that this system trusts.
      cert: This client's own certificate chain, for a server that asks for one; requires `key`.
      key: Private key of `cert`, without a passphrase.
      server_name: Name expected in the server's certificate; empty means the host of the address.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = field(default=None)
    server_name: str = ""

    @key.validator
    def _both_or_none(self, _: object, value: Path | None) -> None:
        if (value is None) != (self.cert is None):
            raise BadTlsFiles("a client's certificate and its key go together: give both or neither")

    def make_context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
          BadTlsFiles.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadTlsFiles(f"{self.ca}: not PEM certificates ({reason_of(error)})") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([HTTP2_ALPN])
        if self.cert is not None and self.key is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=lambda: "")  # or OpenSSL asks at the terminal
            except (OSError, ssl.SSLError) as error:
                reason = f"{self.cert} and {self.key}: not a PEM certificate with its key ({reason_of(error)})"
                raise BadTlsFiles(reason) from None
        return context


class Tls:
    """Server-side TLS with a reloadable context; raises BadTlsFiles.

    Attributes:
      handshake_timeout_s: Longest duration of one handshake; 0 means no limit.
    """

    def __init__(self, files: TlsFiles, *, handshake_timeout_s: float = 10.0) -> None:
        self._files = files
        self._context = files.make_context()
        self.handshake_timeout_s = handshake_timeout_s

    def reload(self) -> None:
        """Read the files again for future connections; on failure the old context stays in use.

        Raises:
          BadTlsFiles.
        """
        self._context = self._files.make_context()

    async def shake_hands(self, transport: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
        """Do the TLS handshake on a stream; on failure the stream is closed.

        Raises:
          HandshakeFailed.
        """
        stream = trio.SSLStream(transport, self._context, server_side=True)
        try:
            with trio.fail_after(self.handshake_timeout_s or math.inf):
                await stream.do_handshake()
            if stream.selected_alpn_protocol() != HTTP2_ALPN:
                raise HandshakeFailed("the peer did not offer HTTP/2 by ALPN")
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
    """Refuse an encrypted key, for which OpenSSL would ask at the terminal."""
    raise _EncryptedKey


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadTlsFiles(f"{path}: {error.strerror}") from None


def reason_of(error: BaseException) -> str:
    """Return in a few words why a file, a handshake or a connection failed."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, OSError) and isinstance(error.__cause__, BaseExceptionGroup):
        return reason_of(error.__cause__.exceptions[0])
    if text := str(getattr(error, "strerror", None) or error):
        return text
    is_gone = isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError))
    return "the connection broke" if is_gone else type(error).__name__
