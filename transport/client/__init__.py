"""The client: connections, calls and sessions on a server, and connections that are made anew when lost.

`RemoteError` is what the service says, `RpcError` what the transport says: nobody there, connection lost, deadline.
`transport.client.errors` has one class for each status.
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
