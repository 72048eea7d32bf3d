"""Resources of this machine, and the check of a node's requirements against them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import attrs

from engine.manifest.manifest import Capabilities

__all__ = ["Machine", "probe_machine", "unmet"]

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


@attrs.frozen
class Machine:
    """Resources of the machine that nodes run on.

    Attributes:
      cores: CPU cores that this process may use.
      arch: Processor architecture, such as "x86_64" or "aarch64".
      memory_gb: Memory of the machine, or of this process's cgroup if that is less, in 10^9 bytes.
      gpus: Type ("cuda", "rocm", "metal") → memory in GB; empty if no GPU is known.
    """

    cores: int
    arch: str
    memory_gb: float
    gpus: dict[str, float] = attrs.field(factory=dict)


def probe_machine() -> Machine:
    """Return the resources of this machine. GPUs are not probed yet, so the result lists none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores, _plain_arch(platform.machine()), _memory_bytes() / 1e9)


def _memory_bytes() -> int:
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cgroup = Path("/sys/fs/cgroup/memory.max")
    try:
        return min(host, int(cgroup.read_text()))
    except (OSError, ValueError):
        return host


def _plain_arch(arch: str) -> str:
    return _ARCHITECTURES.get(arch.lower(), arch.lower())


def unmet(asked: Capabilities, machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield the path and the message of each requirement that is invalid or that the machine does not meet."""
    if asked.cpu and asked.cpu.cores > machine.cores:
        yield "cpu.cores", f"asks for {asked.cpu.cores} cores; this machine has {machine.cores}"
    if asked.cpu and asked.cpu.cores < 0:
        yield "cpu.cores", f"must not be negative, got {asked.cpu.cores}"
    if asked.cpu and asked.cpu.arch and _plain_arch(asked.cpu.arch) != machine.arch:
        yield "cpu.arch", f"asks for {asked.cpu.arch}; this machine is {machine.arch}"
    if not 0 <= asked.memory_gb < float("inf"):
        yield "memory_gb", f"must be a finite number of at least 0, got {asked.memory_gb}"
    elif asked.memory_gb > machine.memory_gb:
        yield "memory_gb", f"asks for {asked.memory_gb:g} GB; this machine has {machine.memory_gb:.1f} GB"
    gpu = asked.gpu
    if gpu and gpu.required:
        there = machine.gpus.get(gpu.type) if gpu.type else max(machine.gpus.values(), default=None)
        if there is None:
            found = ", ".join(machine.gpus) or "none"
            yield "gpu", f"asks for a GPU{f' of type {gpu.type}' if gpu.type else ''}; this machine has {found}"
        elif there < gpu.min_memory_gb:
            yield "gpu.min_memory_gb", f"asks for {gpu.min_memory_gb:g} GB; the GPU of this machine has {there:g} GB"
