"""The machine and versions that a figure belongs to, and which core does what."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe", "pin", "split_cores"]

_PACKAGES = ("headrace", "trio", "purerpc", "h2", "protobuf", "numpy", "samplerate", "webrtcvad-wheels")


def describe() -> dict[str, str]:
    """Processor, cores, system and versions, as they are here."""
    facts = {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
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


def split_cores() -> tuple[set[int], set[int]] | None:
    """A core for the server and one for the client; None where there are not two, or no way to say so."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {cores[1]}) if len(cores) > 1 else None


def pin(process: int, cores: set[int]) -> None:
    """Keep a process (0: this one) on some cores."""
    os.sched_setaffinity(process, cores)
