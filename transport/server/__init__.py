"""The server: listeners, connections, calls, access control and drain, for handlers of any service."""

from __future__ import annotations

from transport.server.listeners import AddressInUse, AddressUnusable
from transport.server.server import Server, serve

__all__ = ["AddressInUse", "AddressUnusable", "Server", "serve"]
