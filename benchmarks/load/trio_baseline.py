"""Baseline of the engine: the same graph of bare trio tasks, which pass packets on through memory channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from engine.manifest import Manifest

__all__ = ["Relay", "open_relay"]

CAPACITY = 32


@attrs.frozen
class Relay:
    """Both ends of the graph.

    Attributes:
      feed: Channel into the source.
      drains: Channels out of the sinks, one each.
    """

    feed: trio.MemorySendChannel[object]
    drains: list[trio.MemoryReceiveChannel[object]]

    async def send(self, packet: object) -> None:
        """Send a packet into the graph, waiting for room."""
        await _send(self.feed, packet)

    async def receive(self) -> object:
        """Wait until a packet has come out of every sink, and return it."""
        for drain in self.drains:
            packet = await _receive(drain)
        return packet


@asynccontextmanager
async def open_relay(manifest: Manifest, capacity: int = CAPACITY) -> AsyncIterator[Relay]:
    """Run one task per node of a manifest with one source, and one channel per edge, while the block runs."""
    inlets: dict[str, list[trio.MemoryReceiveChannel[object]]] = {node.id: [] for node in manifest.nodes}
    outlets: dict[str, list[trio.MemorySendChannel[object]]] = {node.id: [] for node in manifest.nodes}

    def channel() -> tuple[trio.MemorySendChannel[object], trio.MemoryReceiveChannel[object]]:
        return trio.open_memory_channel[object](capacity)

    for edge in manifest.connections:
        send, receive = channel()
        outlets[edge.source].append(send)
        inlets[edge.target].append(receive)
    (source,) = (node for node, receives in inlets.items() if not receives)
    feed, receive = channel()
    inlets[source].append(receive)
    drains = []
    for sends in outlets.values():
        if not sends:
            send, receive = channel()
            sends.append(send)
            drains.append(receive)
    async with trio.open_nursery() as nursery:
        for node, receives in inlets.items():
            nursery.start_soon(_relay, receives, outlets[node])
        yield Relay(feed, drains)
        nursery.cancel_scope.cancel()


async def _relay(
    receives: list[trio.MemoryReceiveChannel[object]], sends: list[trio.MemorySendChannel[object]]
) -> None:
    while True:
        for receive in receives:
            packet = await _receive(receive)
        for send in sends:
            await _send(send, packet)


async def _receive(channel: trio.MemoryReceiveChannel[object]) -> object:
    try:
        return channel.receive_nowait()
    except trio.WouldBlock:
        return await channel.receive()


async def _send(channel: trio.MemorySendChannel[object], packet: object) -> None:
    try:
        channel.send_nowait(packet)
    except trio.WouldBlock:
        await channel.send(packet)
