"""Common part of the in-process peers: the frames, the clock, and the check that the output equals the input.

Each `python -m benchmarks.peers.chains.NAME MODE FRAMES` sends frames of 640 bytes through five nodes that pass them
on, and prints one line of JSON. Modes: `one` at a time; `paced`, the same every 5 ms; `saturated`, with 32 under way.
The clock of a frame starts at its send, for every peer.

This module imports only the standard library, because it runs in every peer's interpreter.
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
    """Frames and times of one run.

    Attributes:
      frames: Frames to send, all different.
      window: Most frames under way at once.
      period_s: Seconds between sends; 0 sends without a pause.
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
        """Number of all frames, including those of the warm-up."""
        return len(self.frames)

    @property
    def sent(self) -> int:
        """Number of frames sent."""
        return len(self._sent)

    @property
    def received(self) -> int:
        """Number of frames received."""
        return len(self._received)

    @property
    def has_room(self) -> bool:
        """True if the next frame may be sent."""
        return self.sent < self.count and self.sent - self.received < self.window

    @property
    def wait_s(self) -> float:
        """Seconds until the next frame is due."""
        if not (self.period_s and self._sent):
            return 0.0
        return max(0.0, self._sent[0] + self.sent * self.period_s - perf_counter())

    def wait(self) -> None:
        """Block the thread until the next frame is due."""
        if wait_s := self.wait_s:
            sleep(wait_s)

    def send(self) -> bytes:
        """Return the next frame, and start its clock."""
        if not self._sent:
            self._cpu_s = process_time()
        self._sent.append(perf_counter())
        return self.frames[len(self._sent) - 1]

    def receive(self, item: Any) -> None:
        """Record a received frame, in any form."""
        self._received.append(perf_counter())
        self._came.append(item)

    async def drive(
        self,
        pause: Callable[[float], Awaitable[None]],
        send: Callable[[bytes], Awaitable[None]],
        receive: Callable[[], Awaitable[Any]],
    ) -> None:
        """Send while there is room, then receive one, until all are received; `pause` is the event loop's sleep."""
        while self.received < self.count:
            while self.has_room:
                if wait_s := self.wait_s:
                    await pause(wait_s)
                await send(self.send())
            self.receive(await receive())

    def report(self, content: Callable[[Any], bytes]) -> dict[str, float]:
        """Return the figures.

        Args:
          content: Returns the bytes of a received frame.
        Raises:
          SystemExit: the output differs from the input.
        """
        cpu_s = process_time() - self._cpu_s
        if [content(item) for item in self._came] != self.frames:
            raise SystemExit(f"the {self.received} frames received are not the {self.count} frames sent, in order")
        latencies = [b - a for a, b in zip(self._sent, self._received, strict=True)][_WARM_UP:]
        return {
            "frames": self.count,
            "p50_us": statistics.median(latencies) * 1e6,
            "p99_us": sorted(latencies)[int(len(latencies) * 0.99)] * 1e6,
            "frames_per_s": self.count / (self._received[-1] - self._sent[0]),
            "cpu_us_per_frame": cpu_s / self.count * 1e6,
        }


def main(run: Callable[[Meter], None], content: Callable[[Any], bytes] = bytes) -> None:
    """Measure a run with the mode and number of frames of the command line, and print the figures."""
    mode, frames = sys.argv[1], int(sys.argv[2])
    meter = Meter(mode, frames)
    gc.collect()
    gc.freeze()
    run(meter)
    print(json.dumps(meter.report(content)))
