"""ChannelSplit: one branch for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from nodes.contract import MAX_CHANNELS, Audio, InvalidInput, Node, To, parameter

__all__ = ["ChannelSplit"]


@attrs.define
class ChannelSplit(Node):
    """Send channels to separate downstream nodes, bit for bit, in order or as `channels` says.

    `channels` lists for each downstream node the indexes of its channels, from 0, in the order of the output; a channel
    may go to several nodes or to none. Without it, the k-th connection from this node, in the manifest's order, gets
    channel k only, and further channels are left out.
    """

    channels: dict[str, list[int]] = parameter({}, help="downstream node id → indexes of its channels, from 0")
    _shares: list[tuple[str, list[int]]] = attrs.field(init=False, factory=list, repr=False)

    routes = True

    def __attrs_post_init__(self) -> None:
        for name, indexes in self.channels.items():
            if not 1 <= len(indexes) <= MAX_CHANNELS or not all(0 <= index < MAX_CHANNELS for index in indexes):
                raise ValueError(f"channels[{name!r}] must be 1 to {MAX_CHANNELS} indexes from 0, got {indexes}")

    def connect_outputs(self, downstreams: Sequence[str]) -> None:
        """Assign channels to the downstream nodes.

        Raises:
          ValueError: there are no downstream nodes, or they are not the ones in `channels`.
        """
        if not downstreams:
            raise ValueError("channels have nowhere to go: connect this node to others")
        if self.channels and set(self.channels) != set(downstreams):
            there = ", ".join(map(repr, downstreams))
            raise ValueError(
                f"channels must have an entry for each node downstream, {there}; got {', '.join(self.channels)}"
            )
        given = self.channels or {name: [index] for index, name in enumerate(downstreams)}
        self._shares = list(given.items())

    def process(self, item: Audio) -> Iterable[To]:
        """Split one block of shape (n, channels).

        Raises:
          InvalidInput: the block has too few channels.
        """
        needed = 1 + max(max(indexes) for _, indexes in self._shares)
        if item.channels < needed:
            raise InvalidInput(f"{needed} channels are needed, the block has {item.channels}")
        return [
            To(name, Audio(item.frames[:, indexes], item.sample_rate, item.start)) for name, indexes in self._shares
        ]
