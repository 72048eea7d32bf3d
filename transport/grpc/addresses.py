"""Addresses of servers: TCP, unix sockets, and inherited sockets."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Address", "Descriptor", "TcpAddress", "UnixAddress", "parse_address"]


@frozen
class TcpAddress:
    """A host and port.

    Attributes:
      host: Name or IP address; a name means every address it resolves to, "" every interface.
      port: Port number; 0 chooses a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class UnixAddress:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen
class Descriptor:
    """A listening socket inherited as a file descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd:{self.fd}"


Address = TcpAddress | UnixAddress | Descriptor


def parse_address(text: str) -> TcpAddress | UnixAddress:
    """Read `HOST:PORT`, `[IPV6]:PORT`, `:PORT` (every interface) or `unix:/path`; raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("///"):  # gRPC's other notation, unix:///path
            path = path[2:]
        if not path or "\0" in path:
            raise ValueError(f"a unix address is unix:PATH, such as unix:/run/headrace.sock; got {text!r}")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"an address is HOST:PORT, [IPV6]:PORT or unix:PATH; got {text!r}")
    return TcpAddress(host[1:-1] if bracketed else host, int(port))
