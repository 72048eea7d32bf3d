"""Compatibility of client versions with this service, as a table.

A version is "v1", "1", "v1.2" or "v1.2.3"; an empty one means "v1". Clients of the same major version are compatible.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from engine.errors import VersionNotSupported

__all__ = ["COMPATIBLE", "PROTOCOL", "check_client", "is_compatible", "runtime_version"]

PROTOCOL = "v1"

COMPATIBLE: dict[str, tuple[str, ...]] = {"v1": ("v1",)}
"""Protocol version of a service → major versions of the clients that it serves."""

_VERSION = re.compile(r"v?(\d{1,9})(\.\d{1,9}){0,2}([-+][0-9A-Za-z.+-]{0,64})?", re.ASCII)


def is_compatible(client_version: str) -> bool:
    """Return True if the service can serve a client of this version."""
    if not client_version:
        return True
    match = _VERSION.fullmatch(client_version)
    return match is not None and f"v{int(match[1])}" in COMPATIBLE[PROTOCOL]


def check_client(client_version: str) -> None:
    """Refuse a client that the service cannot serve.

    Raises:
      VersionNotSupported: the version is not compatible; the message lists the supported ones.
    """
    if not is_compatible(client_version):
        supported = ", ".join(COMPATIBLE[PROTOCOL])
        raise VersionNotSupported(
            f"client version {client_version!r:.80} is not supported; supported are {supported}",
            context={"client_version": client_version[:80], "supported": list(COMPATIBLE[PROTOCOL])},
        )


def runtime_version() -> str:
    """Return the version of the running Headrace; "0+unknown" if it is not installed as a package."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "0+unknown"
