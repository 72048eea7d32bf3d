"""Description of the machine and its versions, assignment of cores, and resource usage of processes."""

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

__all__ = ["Usage", "client_cores", "describe", "ignoring_interrupts", "on_client_cores", "pin", "split_cores", "usage"]

_PACKAGES = ("headrace", "trio", "purerpc", "h2", "protobuf", "numpy", "samplerate", "webrtcvad-wheels")
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def describe(*packages: str) -> dict[str, str]:
    """Describe processor, cores, load, system, commit and versions at this moment.

    Args:
      packages: Packages to list in addition to Headrace and its dependencies.
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
    """Return one core for the server and the others for clients; None with fewer than two cores, or without pinning."""
    return ({_CORES[0]}, set(_CORES[1:])) if len(_CORES) > 1 else None


def client_cores() -> set[int]:
    """Return the cores for clients: without the server's, if there is another."""
    cores = split_cores()
    return set(_CORES) or {0} if cores is None else cores[1]


def pin(process: int, cores: set[int]) -> None:
    """Pin a process (0: this one) to some cores."""
    os.sched_setaffinity(process, cores)


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Make processes that are started in the block ignore Ctrl-C, which goes to the whole group.

    Their parent ends them instead.
    """
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
    """Resources that a process has used so far; a difference is the use between two moments.

    Attributes:
      cpu_s: CPU time of all threads, as the scheduler accounts it: more exact than ticks.
      waited_s: Time that threads were ready to run while other threads had the core.
      rss_bytes: Resident memory now; in a difference, at its end.
    """

    cpu_s: float
    waited_s: float
    rss_bytes: int

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.cpu_s - before.cpu_s, self.waited_s - before.waited_s, self.rss_bytes)


def usage(process: int) -> Usage:
    """Return the usage of a process and all its children so far."""
    family = _family(process)
    times_ns = [text.split() for each in family for text in _of_threads(each, "schedstat")]
    return Usage(
        sum(int(run) for run, _, _ in times_ns) / 1e9,
        sum(int(waited) for _, waited, _ in times_ns) / 1e9,
        sum(_rss_bytes(each) for each in family),
    )


def _family(process: int) -> list[int]:
    children = [int(child) for text in _of_threads(process, "children") for child in text.split()]
    return [process, *(each for child in children for each in _family(child))]


def _of_threads(process: int, file: str) -> list[str]:
    """Read a file of each thread in /proc; a missing file, or that of a thread that has just ended, is skipped."""
    texts = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            texts.append((thread / file).read_text())
    return texts


def _rss_bytes(process: int) -> int:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
