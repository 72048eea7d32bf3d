"""Comparisons between contenders, and the budgets that they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from benchmarks.capacity import find_capacity
from benchmarks.load.figures import spread, summarize
from benchmarks.load.run import run_load
from benchmarks.load.script import Load, Outcome
from benchmarks.peers.checking import check
from benchmarks.peers.contenders import CHAINS, SERVERS, Contender, Stream, run_chain
from benchmarks.report.progress import Bars

__all__ = ["COMPARISONS", "Budget", "Capacity", "Chain", "Comparison", "Figures", "OverSocket"]

Figures = Mapping[str, float]
Rounds = Mapping[str, Sequence[Figures]]
"""Contender → its figures, round by round."""


@attrs.frozen
class Budget:
    """Limit that a figure, or its ratio to another contender's, must keep.

    Attributes:
      figure: Name of the figure.
      ours: Contender that is judged.
      theirs: Contender whose same figure ours is divided by; if empty, the figure itself is judged.
      limit: Limit of that ratio or figure.
      at_least: True if the limit is a minimum, not a maximum.
    """

    figure: str
    ours: str
    theirs: str
    limit: float
    at_least: bool = False

    def answer(self, rounds: Rounds) -> dict[str, float | str]:
        """Return the median and spread of the ratios of the rounds, and the verdict on the median."""
        about = {
            "figure": self.figure,
            "ours": self.ours,
            "against": self.theirs,
            "budget": f"{'≥' if self.at_least else '≤'} {self.limit:g}",
        }
        if not (rounds.get(self.ours) and (not self.theirs or rounds.get(self.theirs))):
            return {**about, "verdict": "not measured"}
        values = [each[self.figure] for each in rounds[self.ours]]
        if self.theirs:
            values = [ours / theirs[self.figure] for ours, theirs in zip(values, rounds[self.theirs], strict=True)]
        median, low, high = spread(values)
        kept = median >= self.limit if self.at_least else median <= self.limit
        return {**about, "found": median, "lowest": low, "highest": high, "verdict": "met" if kept else "MISSED"}


@attrs.frozen(kw_only=True)
class Comparison:
    """Contenders on the same work.

    Attributes:
      title: Title of the table.
      contenders: Names of the contenders.
      columns: Figure to show → heading.
      budgets: Budgets that it answers.
    """

    title: str
    contenders: tuple[str, ...]
    columns: Mapping[str, str]
    budgets: tuple[Budget, ...] = ()

    def contender(self, name: str) -> Contender:
        """Return the contender of this name."""
        return SERVERS[name]

    def check(self, name: str, python: str, bars: Bars) -> None:
        """Check the output of a contender.

        Raises:
          ClickException: the output is wrong.
        """
        raise NotImplementedError

    def measure(self, name: str, python: str, share: float, bars: Bars) -> Figures:
        """Run one contender once.

        Args:
          name: Name of the contender.
          python: Its interpreter.
          share: Length of the run, as a share of the usual.
          bars: Bars that show the progress.

        Raises:
          ClickException: the contender cannot be run.
        """
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class OverSocket(Comparison):
    """Servers under a load; every run starts a fresh server.

    Attributes:
      stream: Stream of each session.
      sessions: Number of sessions at once; 0 for a comparison that searches for the number.
      connections: Number of connections that they share; 0 is one for every 25 sessions.
      paced: True for real pace, False for back to back.
    """

    stream: Stream
    sessions: int
    connections: int = 0
    paced: bool

    def check(self, name: str, python: str, bars: Bars) -> None:
        check(name, self.stream.work, lambda load: self._run(name, python, load, bars))

    def measure(self, name: str, python: str, share: float, bars: Bars) -> Figures:
        return summarize(self._run(name, python, self._load(name, self.sessions, share), bars))

    def _load(self, name: str, sessions: int, share: float) -> Load:
        stream = attrs.evolve(self.stream, chunks=max(5, round(self.stream.chunks * share)))
        return Load(
            script=stream.script(SERVERS[name]),
            sessions=sessions,
            connections=self.connections,
            period_s=stream.chunk_ms / 1000 if self.paced else 0.0,
            warm_up=stream.chunks // 5,
        )

    def _run(self, name: str, python: str, load: Load, bars: Bars) -> Outcome:
        command = SERVERS[name].command(self.stream.work)
        return run_load(load, bars, f"{name}, {load.sessions} sessions", command, python)


@attrs.frozen(kw_only=True)
class Capacity(OverSocket):
    """The largest number of sessions whose p99 stays below a chunk's length, searched anew in every round."""

    start: int = 32
    resolution: float = 0.04

    def measure(self, name: str, python: str, share: float, bars: Bars) -> Figures:
        found = find_capacity(
            lambda sessions: self._run(name, python, self._load(name, sessions, share), bars),
            limit_ms=self.stream.chunk_ms,
            start=self.start,
            resolution=self.resolution,
            repeats=1,
        )
        passed = [row for row in found.rows if row["sessions"] == found.sessions]
        figures = {key: value for key, value in (passed or found.rows)[-1].items() if isinstance(value, (int, float))}
        return {**figures, "sessions": found.sessions}


@attrs.frozen(kw_only=True)
class Chain(Comparison):
    """Five pass-through nodes in process; each run checks its own output.

    Attributes:
      mode: One of the modes of `benchmarks.peers.chains.meter`.
      frames: Number of frames in a run.
    """

    mode: str
    frames: int

    def contender(self, name: str) -> Contender:
        return CHAINS[name]

    def check(self, name: str, python: str, bars: Bars) -> None:
        run_chain(name, python, self.mode, 20)

    def measure(self, name: str, python: str, share: float, bars: Bars) -> Figures:
        return run_chain(name, python, self.mode, max(20, round(self.frames * share)))


_CPU, _P50, _P99, _MEAN = "server_cpu_us_per_chunk", "p50_ms", "p99_ms", "mean_ms"
_LOAD = {
    _CPU: "server us/chunk",
    "chunks_per_s": "chunks/s",
    _P50: "p50 ms",
    _P99: "p99 ms",
    _MEAN: "mean ms",
    "lost": "lost",
    "client_busy_percent": "client busy %",
}
_IN_PROCESS = {"p50_us": "p50 us", "p99_us": "p99 us", "frames_per_s": "frames/s", "cpu_us_per_frame": "CPU us/frame"}
_ECHO = ("headrace", "headrace, full results", "driver", "grpcio", "purerpc")
_ECHO_BUDGETS = (Budget(_CPU, "headrace", "grpcio", 1.0), Budget(_CPU, "headrace, full results", "grpcio", 1.0))


def _as_quick_as(*theirs: str) -> tuple[Budget, ...]:
    return tuple(Budget("p50_us", "headrace", each, 1.0) for each in theirs)


COMPARISONS: Mapping[str, Comparison] = {
    "echo": OverSocket(
        title="echo of 640 bytes, 50 streams on one connection, back to back (Headrace: PassThrough)",
        contenders=_ECHO,
        columns=_LOAD,
        budgets=(Budget(_CPU, "driver", "grpcio", 0.75), Budget(_CPU, "driver", "purerpc", 0.45), *_ECHO_BUDGETS),
        stream=Stream("echo", 16_000, 20, 400),
        sessions=50,
        connections=1,
        paced=False,
    ),
    "paced": OverSocket(
        title="the same, paced at 20 ms",
        contenders=_ECHO,
        columns=_LOAD,
        budgets=(Budget(_CPU, "driver", "grpcio", 1.0), *_ECHO_BUDGETS),
        stream=Stream("echo", 16_000, 20, 250),
        sessions=50,
        connections=1,
        paced=True,
    ),
    "ping-pong": OverSocket(
        title="the same, one session, one chunk at a time",
        contenders=_ECHO,
        columns=_LOAD,
        budgets=(Budget(_P50, "headrace", "grpcio", 1.0), Budget(_P99, "headrace", "grpcio", 1.0)),
        stream=Stream("echo", 16_000, 20, 3000),
        sessions=1,
        paced=False,
    ),
    "speech": Capacity(
        title="resample 48 to 16 kHz (sinc_fastest), VAD and level: sessions of 20 ms chunks with p99 < 20 ms",
        contenders=("headrace", "driver", "grpcio", "purerpc", "pipecat"),
        columns={"sessions": "sessions", **_LOAD},
        budgets=(
            Budget("sessions", "headrace", "grpcio", 1.8, at_least=True),
            Budget("sessions", "headrace", "pipecat", 3.0, at_least=True),
        ),
        stream=Stream("speech", 48_000, 20, 250),
        sessions=0,
        paced=True,
    ),
    "crowd": OverSocket(
        title="PassThrough and VAD, 1,000 sessions of 100 ms chunks",
        contenders=("headrace", "driver", "grpcio", "purerpc"),
        columns=_LOAD,
        budgets=(
            Budget("lost", "headrace", "", 0.0),
            Budget(_MEAN, "headrace", "", 50.0),
            Budget(_P99, "headrace", "", 100.0),
        ),
        stream=Stream("vad", 16_000, 100, 50),
        sessions=1000,
        paced=True,
    ),
    "chain": Chain(
        title="five pass-through nodes in process, 640 bytes, one at a time, back to back",
        contenders=tuple(CHAINS),
        columns=_IN_PROCESS,
        budgets=_as_quick_as("bytewax", "mediapipe", "mediapipe, its own threads"),
        mode="one",
        frames=3000,
    ),
    "chain-paced": Chain(
        title="the same, one every 5 ms",
        contenders=tuple(CHAINS),
        columns=_IN_PROCESS,
        budgets=_as_quick_as("bytewax", "mediapipe", "mediapipe, its own threads"),
        mode="paced",
        frames=600,
    ),
    "chain-saturated": Chain(
        title="the same, 32 under way",
        contenders=tuple(CHAINS),
        columns=_IN_PROCESS,
        budgets=(
            Budget("frames_per_s", "headrace", "pipecat", 8.0, at_least=True),
            Budget("frames_per_s", "headrace", "pipecat, defaults", 8.0, at_least=True),
            Budget("cpu_us_per_frame", "headrace", "trio", 2.0),
        ),
        mode="saturated",
        frames=20_000,
    ),
}
