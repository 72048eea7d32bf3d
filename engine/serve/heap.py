"""Memory settings of the server's process: the garbage collector and the C library's allocator.

By default, each time a large block is freed, glibc raises the size from which it returns blocks to the system, up to
32 MiB, and it keeps twice that size at the end of its heap. Memory that a few large messages needed then stays
resident for good. Resident MB of a server at rest, before and after rounds of unary calls of up to 16 MB, four at a
time:

    glibc's default      57   90 to 110    CPU per call of 1, 4, 16 MB: 8.5, 28, 151 ms
    blocks from 2 MiB    57   60 to 74                                  9.7, 46, 180  (4 MiB kept at the heap's end)
    blocks from 1 MiB    57   58                                        15,  53, 198
    blocks from 128 KiB  57   57                                        16,  54, 196
    one arena            57   89 to 91                                  9.8, 30, 151

The CPU time goes into page faults, which are expensive in the virtual machine where this was measured. An occasional
`malloc_trim` has no such cost per call, but holds the event loop for 1 ms per MB that it returns.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform

__all__ = ["LARGE_BYTES", "freeze", "return_large_blocks"]

LARGE_BYTES = 2 * 1024 * 1024
"""About twice the size of ten seconds of 16-bit mono audio at 48 kHz."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def freeze() -> None:
    """Exclude the objects made at start-up from every later garbage collection, so that its pauses are shorter."""
    gc.collect()
    gc.freeze()


def return_large_blocks() -> bool:
    """Make the allocator return free blocks of `LARGE_BYTES` or more, and as much at the heap's end, to the system.

    Returns:
      True if the allocator accepted this. False without glibc, or if the environment (`MALLOC_MMAP_THRESHOLD_`,
      `MALLOC_TRIM_THRESHOLD_`, `GLIBC_TUNABLES`) already sets it.
    """
    if platform.libc_ver()[0] != "glibc" or _is_set_by_environment():
        return False
    libc = ctypes.CDLL(None)
    taken = [libc.mallopt(name, LARGE_BYTES) for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(taken)


def _is_set_by_environment() -> bool:
    named = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys()
    return bool(named) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
