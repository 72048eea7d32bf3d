"""A service that may come and go: connections made anew when one is lost, sessions opened when one can be.

    async with reconnecting("127.0.0.1:50051") as service:
        while more_to_send():
            async with service.stream(manifest) as session:
                ...

A session lives on one server: when it is lost its state is lost, and what it had not answered is the caller's to
send again, to a new one.

Rules kept here:
- Waits grow exponentially and are drawn evenly from zero to their bound ("full jitter"), so that clients which
  lost the same server do not come back in step.
- Attempts are bounded. What another attempt would not mend is raised at once.
- What the server says of when to come again is a least wait on top of which the jitter goes.
- At most one connection is being made at a time, and the lost ones are closed.
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

_AGAIN = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})


@frozen(kw_only=True)
class Backoff:
    """How often to try, and how long to wait in between.

    Attributes:
      attempts: In all, the first one among them.
      first_s: The most that is waited after the first attempt.
      factor: By which that grows from attempt to attempt.
      most_s: Beyond which it does not grow.
      longest_hint_s: A server that asks for a longer wait than this is taken for one that says no.
    """

    attempts: int = field(default=8, validator=ge(1))
    first_s: float = field(default=0.2, validator=ge(0))
    factor: float = field(default=2.0, validator=ge(1))
    most_s: float = field(default=10.0, validator=ge(0))
    longest_hint_s: float = field(default=60.0, validator=ge(0))

    def bound_s(self, failures: int) -> float:
        """The most to wait after so many failures, the hint aside."""
        if self.factor == 1 or not self.first_s:
            return min(self.most_s, self.first_s)
        bound = self.first_s
        for _ in range(failures - 1):
            bound *= self.factor
            if bound >= self.most_s:
                break
        return min(self.most_s, bound)


def retry_after_s(error: Exception) -> float | None:
    """How long to wait at least before the same call is tried again; None if that would be of no use."""
    if isinstance(error, RemoteError):
        return error.retry_after_ms / 1e3 if error.retryable and error.code in _AGAIN else None
    if not isinstance(error, (Unavailable, ResourceExhausted)):
        return None
    asked_ms = pushback_ms(error.status.metadata)
    if asked_ms is None:
        return 0.0 if isinstance(error, Unavailable) else None
    return None if asked_ms < 0 else asked_ms / 1e3


class Reconnecting:
    """Clients of one service, one at a time; made by `reconnecting`."""

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
        """A client whose connection lives: the last one, or a new one.

        Raises:
          RpcError: of the last attempt.
        """
        return await self._until_it_works(self._connected)

    @acyclic
    @asynccontextmanager
    async def stream(self, manifest: Manifest, **options: Any) -> AsyncIterator[RemoteSession]:
        """Open a new session, as `Client.stream` does; what goes wrong before it is ready is tried again.

        Raises:
          RemoteError, RpcError: of the last attempt, or when the session ends.
        """
        async with AsyncExitStack() as stack:

            async def attempt() -> RemoteSession:
                client = await self._connected()
                return await stack.enter_async_context(client.stream(manifest, **options))

            yield await self._until_it_works(attempt)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or self._client.is_going:
                self._done.set()  # calls that a server still serves while it goes end with their own blocks
                self._done = trio.Event()
                self._client = None
                self._client = await self._nursery.start(self._hold, self._done)
            return self._client

    async def _hold(self, done: trio.Event, task_status: trio.TaskStatus[Client]) -> None:
        """Keep a connection open until it is not wanted any more, and no call needs it."""
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
    """A service to which connections are made as they are needed; nothing is tried before.

    Args:
      address: Of the service.
      tls: Of every connection, as for `transport.client.connect`.
      token: The same.
      timeout_s: The same.
      limits: The same.
      backoff: How often to try, and how long to wait in between.
      open_client: How a connection is made, in place of all of these.
      chance: Where to wait between nothing and the whole of a wait, from 0 to 1.

    Raises:
      ValueError: the address is none.
    """
    parse_target(address)
    opened = open_client or partial(connect, address, tls=tls, token=token, timeout_s=timeout_s, limits=limits)
    async with unwrapped_nursery() as nursery:
        try:
            yield Reconnecting(opened, backoff or Backoff(), nursery, chance)
        finally:
            nursery.cancel_scope.cancel()
