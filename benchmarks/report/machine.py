"""The machine and versions that a figure belongs to, which core does what, and what a process has used."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

__all__ = ["Usage", "client_cores", "deaf_to_interrupts", "describe", "on_client_cores", "pin", "split_cores", "usage"]

_PACKAGES = ("headrace", "trio", "purerpc", "h2", "protobuf", "numpy", "samplerate", "webrtcvad-wheels")
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def describe(*packages: str) -> dict[str, str]:
    """Processor, cores, load, system, commit and versions, as they are here and now.

    Args:
      packages: Whose versions count beside our own dependencies'.
    """
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": str(len(_CORES) or os.cpu_count()),
        "load": " ".join(f"{each:.2f}" for each in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in (*_PACKAGES, *packages):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    here = Path(__file__).parent
    try:
        named = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return named.stdout.strip()


def split_cores() -> tuple[set[int], set[int]] | None:
    """A core for the server and the others for clients; None where there are not two, or no way to say so."""
    return ({_CORES[0]}, set(_CORES[1:])) if len(_CORES) > 1 else None


def client_cores() -> set[int]:
    """Where clients run: not on the server's core, if there is another."""
    cores = split_cores()
    return set(_CORES) or {0} if cores is None else cores[1]


def pin(process: int, cores: set[int]) -> None:
    """Keep a process (0: this one) on some cores."""
    os.sched_setaffinity(process, cores)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """What is started in the block does not hear Ctrl-C, which goes to the whole group: its parent ends it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def on_client_cores() -> Iterator[None]:
    """Keep this process off the server's core while the block runs."""
    if split_cores() is None:
        yield
        return
    before = os.sched_getaffinity(0)
    pin(0, client_cores())
    try:
        yield
    finally:
        pin(0, before)


@attrs.frozen
class Usage:
    """What a process has used so far; a difference is what it used between.

    Attributes:
      cpu_s: CPU time of all its threads, by the scheduler's own account, which is exact where ticks are not.
      waited_s: How long they were ready to run and others had the core.
      rss_bytes: Resident memory now; of a difference, at its end.
    """

    cpu_s: float
    waited_s: float
    rss_bytes: int

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.cpu_s - before.cpu_s, self.waited_s - before.waited_s, self.rss_bytes)


def usage(process: int) -> Usage:
    """As it is now; of a process that has children, with theirs."""
    family = _family(process)
    times_ns = [told.split() for each in family for told in _of_threads(each, "schedstat")]
    return Usage(
        sum(int(run) for run, _, _ in times_ns) / 1e9,
        sum(int(waited) for _, waited, _ in times_ns) / 1e9,
        sum(_rss_bytes(each) for each in family),
    )


def _family(process: int) -> list[int]:
    children = [int(child) for told in _of_threads(process, "children") for child in told.split()]
    return [process, *(each for child in children for each in _family(child))]


def _of_threads(process: int, file: str) -> list[str]:
    """What the system tells of each thread, if it has such a file and the thread has not just ended."""
    told = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            told.append((thread / file).read_text())
    return told


def _rss_bytes(process: int) -> int:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
