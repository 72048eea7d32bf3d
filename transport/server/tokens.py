"""Bearer tokens, stored as SHA-256 hashes, and the file that lists them.

Rules kept here:
- A token's value is never stored, logged or shown. Only `new_token` returns one, to be handed to a client.
- A look-up takes the same time for every token: all entries are compared, each in constant time.
- A file with one bad line is rejected as a whole. An empty file admits nobody, which revokes all tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from transport.grpc.status import Metadata

__all__ = [
    "MAX_TOKEN_CHARACTERS",
    "BadTokenFile",
    "NotAuthenticated",
    "TokenFile",
    "Tokens",
    "check_name",
    "hash_token",
    "new_token",
    "parse_tokens",
]

MAX_TOKEN_CHARACTERS = 512
_TOKEN_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class NotAuthenticated(Exception):
    """A call has no token, or an unknown one. The message may be sent to the client."""


class BadTokenFile(ValueError):
    """A token file cannot be used; the message gives place and reason, and quotes no content."""


def new_token() -> str:
    """Make a token of 256 random bits, in characters that need no quoting in shells, URLs or headers."""
    return f"hr_{secrets.token_urlsafe(_TOKEN_BYTES)}"


def hash_token(token: str) -> str:
    """Return the stored form of a token: its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_name(name: str) -> str:
    """Return the name if a token may have it; raise ValueError if not."""
    if not _NAME.fullmatch(name):
        raise ValueError("a token's name is 1 to 64 letters, digits, '.', '_', '@' or '-', the first a letter or digit")
    return name


@frozen
class Tokens:
    """Token names with their hashes; a name may have several, so that a new token can replace an old one."""

    _entries: tuple[tuple[str, bytes], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self._entries)

    def name_of(self, token: str) -> str | None:
        """Return the name of a token; None for an unknown one."""
        presented = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = None
        for name, digest in self._entries:  # no early exit: the time must not depend on the token
            if hmac.compare_digest(digest, presented):
                found = name
        return found

    def authenticate(self, metadata: Metadata) -> str:
        """Return the token name of a caller, from `authorization: Bearer TOKEN` in a call's metadata.

        Raises:
          NotAuthenticated: the token is missing, malformed or unknown.
        """
        values = [value for name, value in metadata if name == "authorization"]
        if not values:
            raise NotAuthenticated("this service needs a token; send metadata `authorization: Bearer TOKEN`")
        scheme, _, token = str(values[0]).partition(" ")
        token = token.strip(" ")
        if len(values) > 1 or scheme.lower() != "bearer" or not token:
            raise NotAuthenticated("metadata `authorization` must be exactly one Bearer token")
        name = self.name_of(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        if name is None:
            raise NotAuthenticated("the server does not know this token")
        return name


def parse_tokens(lines: Iterable[str], where: str = "line") -> Tokens:
    """Read lines `name:sha256hex`; skip empty lines and lines that begin with #.

    Raises:
      BadTokenFile: a line is malformed, or repeats a hash.
    """
    entries: list[tuple[str, bytes]] = []
    known: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, digest = line.partition(":")
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise BadTokenFile(f"{where} {number}: not NAME:SHA256 with a hash of 64 hex digits")
        value = bytes.fromhex(digest)
        if value in known:
            raise BadTokenFile(f"{where} {number}: the same hash as on line {known[value]}")
        known[value] = number
        entries.append((name, value))
    return Tokens(tuple(entries))


class TokenFile:
    """Tokens of a file, with a reload.

    Attributes:
      tokens: Tokens of the last successful read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tokens = self._read()

    def reload(self) -> None:
        """Read the file again; after a failure the tokens read before stay in force.

        Raises:
          BadTokenFile: the file cannot be read, or a line is malformed.
        """
        self.tokens = self._read()

    def _read(self) -> Tokens:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as error:
            raise BadTokenFile(f"{self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadTokenFile(f"{self._path}: not UTF-8 text") from None
        return parse_tokens(text.splitlines(), f"{self._path}, line")
