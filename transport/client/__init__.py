"""The client: connections, calls and sessions on a server, and reconnecting clients.

A `RemoteError` comes from the service. An `RpcError` comes from the transport: no server, a lost connection, a passed
deadline. `transport.client.errors` has one class for each status.
"""

from __future__ import annotations

from transport.client.client import Client, RemoteSession, Version, connect
from transport.client.reconnect import Backoff, Reconnecting, reconnecting
from transport.codec.errors import RemoteError
from transport.codec.events import Event
from transport.grpc.status import RpcError
from transport.grpc.tls import ClientTls

__all__ = [
    "Backoff",
    "Client",
    "ClientTls",
    "Event",
    "Reconnecting",
    "RemoteError",
    "RemoteSession",
    "RpcError",
    "Version",
    "connect",
    "reconnecting",
]
