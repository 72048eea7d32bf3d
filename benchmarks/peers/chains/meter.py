"""What the in-process peers share: the frames, the clock, and the check that what comes out is what went in.

Each `python -m benchmarks.peers.chains.NAME MODE FRAMES` sends frames of 640 bytes through five nodes that pass them
on, and prints one line of JSON. Modes: `one` at a time; `paced`, the same every 5 ms; `saturated`, with 32 under way.
The clock of a frame starts at its send, on every peer.

Standard library only: it runs in every peer's interpreter.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time, sleep
from typing import Any

__all__ = ["NODES", "Meter", "main"]

NODES = 5
_WINDOW = 32
_PERIOD_S = 0.005
_FRAME_BYTES = 640
_WARM_UP = 10


class Meter:
    """One run's frames and times.

    Attributes:
      frames: What to send, each unlike the others.
      window: How many may be under way.
      period_s: Between sends; 0 is none.
    """

    def __init__(self, mode: str, frames: int) -> None:
        self.frames = [number.to_bytes(4, "big") * (_FRAME_BYTES // 4) for number in range(frames)]
        self.window = _WINDOW if mode == "saturated" else 1
        self.period_s = _PERIOD_S if mode == "paced" else 0.0
        self._sent: list[float] = []
        self._received: list[float] = []
        self._came: list[Any] = []
        self._cpu_s = 0.0

    @property
    def count(self) -> int:
        """Of all frames, the first ones to warm up included."""
        return len(self.frames)

    @property
    def sent(self) -> int:
        """How many have gone in."""
        return len(self._sent)

    @property
    def received(self) -> int:
        """How many have come out."""
        return len(self._received)

    @property
    def has_room(self) -> bool:
        """Whether the next frame may go in."""
        return self.sent < self.count and self.sent - self.received < self.window

    @property
    def wait_s(self) -> float:
        """How long until the next frame is due."""
        if not (self.period_s and self._sent):
            return 0.0
        return max(0.0, self._sent[0] + self.sent * self.period_s - perf_counter())

    def wait(self) -> None:
        """Wait for it, blocking."""
        if wait_s := self.wait_s:
            sleep(wait_s)

    def send(self) -> bytes:
        """The next frame, whose clock starts now."""
        if not self._sent:
            self._cpu_s = process_time()
        self._sent.append(perf_counter())
        return self.frames[len(self._sent) - 1]

    def receive(self, item: Any) -> None:
        """A frame has come out, in whatever form."""
        self._received.append(perf_counter())
        self._came.append(item)

    async def drive(
        self,
        pause: Callable[[float], Awaitable[None]],
        send: Callable[[bytes], Awaitable[None]],
        receive: Callable[[], Awaitable[Any]],
    ) -> None:
        """Send while there is room, then take one, until all have come out; `pause` is the event loop's sleep."""
        while self.received < self.count:
            while self.has_room:
                if wait_s := self.wait_s:
                    await pause(wait_s)
                await send(self.send())
            self.receive(await receive())

    def report(self, content: Callable[[Any], bytes]) -> dict[str, float]:
        """The figures.

        Args:
          content: The bytes of what was received.
        Raises:
          SystemExit: what came out is not what went in.
        """
        cpu_s = process_time() - self._cpu_s
        if [content(item) for item in self._came] != self.frames:
            raise SystemExit(f"{self.received} of {self.count} frames came out, or others, or in another order")
        latencies = [b - a for a, b in zip(self._sent, self._received, strict=True)][_WARM_UP:]
        return {
            "frames": self.count,
            "p50_us": statistics.median(latencies) * 1e6,
            "p99_us": sorted(latencies)[int(len(latencies) * 0.99)] * 1e6,
            "frames_per_s": self.count / (self._received[-1] - self._sent[0]),
            "cpu_us_per_frame": cpu_s / self.count * 1e6,
        }


def main(run: Callable[[Meter], None], content: Callable[[Any], bytes] = bytes) -> None:
    """Measure as the command line says, and print the figures."""
    mode, frames = sys.argv[1], int(sys.argv[2])
    meter = Meter(mode, frames)
    gc.collect()
    gc.freeze()
    run(meter)
    print(json.dumps(meter.report(content)))
