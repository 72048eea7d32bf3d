"""A reconnecting client: it replaces lost connections and retries to open sessions.

    async with reconnecting("127.0.0.1:50051") as service:
        while more_to_send():
            async with service.stream(manifest) as session:
                ...

A session lives on one server. A lost session loses its state: the caller must open a new one and send unanswered chunks
again.

Rules kept here:
- Waits are drawn evenly between zero and a bound that grows exponentially ("full jitter"), so that clients of the same
  lost server do not return all at once.
- The number of attempts is bounded. An error that another attempt cannot help is raised at once.
- A wait that the server asks for is added to the drawn wait.
- At most one connection is opened at a time, and lost connections are closed.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio
from attrs import field, frozen
from attrs.validators import ge

from engine.contexts import acyclic, unwrapped_nursery
from engine.manifest import Manifest
from transport.client.client import Client, RemoteSession, connect
from transport.client.dial import parse_target
from transport.client.errors import ResourceExhausted, Unavailable, pushback_ms
from transport.codec.errors import RemoteError
from transport.grpc.limits import Limits
from transport.grpc.status import RpcError, StatusCode
from transport.grpc.tls import ClientTls

__all__ = ["Backoff", "Reconnecting", "reconnecting", "retry_after_s"]

T = TypeVar("T")

_RETRIED_CODES = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})


@frozen(kw_only=True)
class Backoff:
    """Number of attempts, and the waits between them.

    Attributes:
      attempts: Attempts in all, including the first.
      first_s: Longest wait after the first attempt.
      factor: Growth of the longest wait from attempt to attempt.
      most_s: Upper bound of the longest wait.
      longest_hint_s: Longest wait that a server may ask for; a longer one ends the attempts.
    """

    attempts: int = field(default=8, validator=ge(1))
    first_s: float = field(default=0.2, validator=ge(0))
    factor: float = field(default=2.0, validator=ge(1))
    most_s: float = field(default=10.0, validator=ge(0))
    longest_hint_s: float = field(default=60.0, validator=ge(0))

    def bound_s(self, failures: int) -> float:
        """Return the longest wait after this number of failures, without the server's hint."""
        if self.factor == 1 or not self.first_s:
            return min(self.most_s, self.first_s)
        bound = self.first_s
        for _ in range(failures - 1):
            bound *= self.factor
            if bound >= self.most_s:
                break
        return min(self.most_s, bound)


def retry_after_s(error: Exception) -> float | None:
    """Return the least wait before the same call may be tried again; None if another attempt cannot help."""
    if isinstance(error, RemoteError):
        return error.retry_after_ms / 1e3 if error.retryable and error.code in _RETRIED_CODES else None
    if not isinstance(error, (Unavailable, ResourceExhausted)):
        return None
    asked_ms = pushback_ms(error.status.metadata)
    if asked_ms is None:
        return 0.0 if isinstance(error, Unavailable) else None
    return None if asked_ms < 0 else asked_ms / 1e3


class Reconnecting:
    """Reconnecting client of one service, with one connection at a time for new calls; made by `reconnecting`."""

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager[Client]],
        backoff: Backoff,
        nursery: trio.Nursery,
        chance: Callable[[], float],
    ) -> None:
        self._open_client = open_client
        self._backoff = backoff
        self._nursery = nursery
        self._chance = chance
        self._connecting = trio.Lock()
        self._client: Client | None = None
        self._done = trio.Event()  # with the present client

    async def client(self) -> Client:
        """Return a client that can start calls: the present one, or one on a new connection.

        Raises:
          RpcError: the error of the last attempt.
        """
        return await self._until_it_works(self._connected)

    @acyclic
    @asynccontextmanager
    async def stream(self, manifest: Manifest, **options: Any) -> AsyncIterator[RemoteSession]:
        """Open a new session, as `Client.stream` does; retry failures that happen before the session is ready.

        Raises:
          RemoteError, RpcError: the error of the last attempt, or of the session itself.
        """
        async with AsyncExitStack() as stack:

            async def attempt() -> RemoteSession:
                client = await self._connected()
                return await stack.enter_async_context(client.stream(manifest, **options))

            yield await self._until_it_works(attempt)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or self._client.is_unavailable:
                self._done.set()  # calls still under way on the old connection keep it open until they end
                self._done = trio.Event()
                self._client = None
                self._client = await self._nursery.start(self._hold, self._done)
            return self._client

    async def _hold(self, done: trio.Event, task_status: trio.TaskStatus[Client]) -> None:
        """Keep a connection open until it has been replaced and its last call has ended."""
        async with self._open_client() as client:
            task_status.started(client)
            await done.wait()
            await client.wait_unused()

    async def _until_it_works(self, attempt: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await attempt()
            except (RemoteError, RpcError) as error:
                failures += 1
                hint_s = retry_after_s(error)
                if hint_s is None or hint_s > self._backoff.longest_hint_s or failures >= self._backoff.attempts:
                    raise
            await trio.sleep(hint_s + self._chance() * self._backoff.bound_s(failures))


@acyclic
@asynccontextmanager
async def reconnecting(
    address: str,
    *,
    tls: ClientTls | None = None,
    token: str = "",
    timeout_s: float = 10.0,
    limits: Limits | None = None,
    backoff: Backoff | None = None,
    open_client: Callable[[], AbstractAsyncContextManager[Client]] | None = None,
    chance: Callable[[], float] = random.random,
) -> AsyncIterator[Reconnecting]:
    """Make a reconnecting client; connections open when a call needs one, not before.

    Args:
      address: Address of the service, "host:port" or "unix:/path".
      tls: TLS of every connection, as for `transport.client.connect`.
      token: Token sent with every call.
      timeout_s: Time limit of each attempt to connect.
      limits: Memory and time limits of every connection.
      backoff: Number of attempts, and the waits between them.
      open_client: Opens a connection, in place of all the arguments above.
      chance: Returns the fraction of the longest wait to sleep, from 0 to 1.

    Raises:
      ValueError: the address is malformed.
    """
    parse_target(address)
    opened = open_client or partial(connect, address, tls=tls, token=token, timeout_s=timeout_s, limits=limits)
    async with unwrapped_nursery() as nursery:
        try:
            yield Reconnecting(opened, backoff or Backoff(), nursery, chance)
        finally:
            nursery.cancel_scope.cancel()
