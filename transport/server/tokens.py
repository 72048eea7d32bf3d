"""Bearer tokens: who may call, known by the SHA-256 of what they present.

Rules kept here:
- A token's value is never kept, logged or shown; only `new_token` ever makes one, for whoever will carry it.
- Looking a token up takes the same time whichever it is: every entry is compared, in constant time.
- A file that cannot be read whole is refused whole. An empty one lets nobody in: that is how all are revoked.
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
    """No token, or one that nobody holds. The message is fit to be sent."""


class BadTokenFile(ValueError):
    """The file of tokens cannot be used; the message says where and why, and repeats no content."""


def new_token() -> str:
    """A token of 256 random bits, in characters that need no quoting anywhere."""
    return f"hr_{secrets.token_urlsafe(_TOKEN_BYTES)}"


def hash_token(token: str) -> str:
    """What a token is kept as: its SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_name(name: str) -> str:
    """Give the name back if a token may be named so; raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("a token's name is 1 to 64 letters, digits, '.', '_', '@' or '-', the first a letter or digit")
    return name


@frozen
class Tokens:
    """Names and the digests they are known by; a name may have several, while one takes another's place."""

    _entries: tuple[tuple[str, bytes], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self._entries)

    def name_of(self, token: str) -> str | None:
        """Who holds this token."""
        presented = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = None
        for name, digest in self._entries:  # to the end, also when found
            if hmac.compare_digest(digest, presented):
                found = name
        return found

    def authenticate(self, metadata: Metadata) -> str:
        """Who is calling, by `authorization: Bearer TOKEN` in a call's metadata.

        Raises:
          NotAuthenticated.
        """
        values = [value for name, value in metadata if name == "authorization"]
        if not values:
            raise NotAuthenticated("this service needs a token: authorization: Bearer TOKEN")
        scheme, _, token = str(values[0]).partition(" ")
        token = token.strip(" ")
        if len(values) > 1 or scheme.lower() != "bearer" or not token:
            raise NotAuthenticated("the authorization must be one Bearer token")
        name = self.name_of(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        if name is None:
            raise NotAuthenticated("the token is not known here")
        return name


def parse_tokens(lines: Iterable[str], where: str = "line") -> Tokens:
    """Read lines `name:sha256hex`; empty ones and those that begin with # are passed over.

    Raises:
      BadTokenFile.
    """
    entries: list[tuple[str, bytes]] = []
    known: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, digest = line.partition(":")
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise BadTokenFile(f"{where} {number}: not NAME:SHA256, the hash in 64 hex digits")
        value = bytes.fromhex(digest)
        if value in known:
            raise BadTokenFile(f"{where} {number}: the same hash as on line {known[value]}")
        known[value] = number
        entries.append((name, value))
    return Tokens(tuple(entries))


class TokenFile:
    """The tokens of a file, read again when asked to.

    Attributes:
      tokens: As last read well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tokens = self._read()

    def reload(self) -> None:
        """Read the file again; what was read before stays in force if that fails.

        Raises:
          BadTokenFile.
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
