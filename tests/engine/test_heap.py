"""Test that large blocks, once freed, go back to the system; in a separate process, whose heap is unused."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from engine.serve.heap import LARGE_BYTES

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")

ROOT = Path(__file__).parents[2]
BLOCKS, MB = 8, 1_000_000

CHILD = f"""
import os
from engine.serve import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

told = heap.return_large_blocks()
largest = bytearray(b"x") * 31_000_000
del largest  # by itself, glibc keeps blocks of this size from now on
before = resident()
large = [(bytearray(b"x") * {2 * LARGE_BYTES}, bytes(1000)) for _ in range({BLOCKS})]
small = [each for _, each in large]  # lie between the large ones
peak = resident()
del large
print(told, peak - before, resident() - before)
"""


def growth(**environment: str) -> tuple[bool, int, int]:
    """Run `CHILD` in a process with this environment.

    Returns:
      (True if the allocator accepted the settings, growth of memory in bytes while the blocks exist, and after that).
    """
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=ROOT,
        env={**settings, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told, peak, rest = done.stdout.split()
    return told == "True", int(peak), int(rest)


def test_large_blocks_go_back_to_the_system() -> None:
    told, peak, rest = growth()
    assert told
    assert peak > 2 * BLOCKS * LARGE_BYTES - MB
    assert rest < 4 * MB


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"])
def test_the_operator_has_the_last_word(name: str) -> None:
    assert not growth(**{name: str(31 * 1024 * 1024)})[0]
