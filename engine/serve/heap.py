"""The memory of a server's process: what the collector and the C library's allocator are told.

By itself glibc raises, with every large block that is freed, the size from which it returns blocks to the system, up
to 32 MiB, and keeps twice as much at the end of its heap: what a few large messages needed stays resident for good.
Resident MB of a server at rest, before and after rounds of unary calls of up to 16 MB, four at a time:

    glibc's own way      57   90 to 110    CPU per call of 1, 4, 16 MB: 8.5, 28, 151 ms
    blocks from 2 MiB    57   60 to 74                                  9.7, 46, 180  (4 MiB kept at the heap's end)
    blocks from 1 MiB    57   58                                        15,  53, 198
    blocks from 128 KiB  57   57                                        16,  54, 196
    one arena            57   89 to 91                                  9.8, 30, 151

The CPU is page faults, which are dear in the virtual machine where this was measured. `malloc_trim` now and then has
none of that cost per call, but holds the event loop for 1 ms per MB that it returns.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform

__all__ = ["LARGE_BYTES", "freeze", "return_large_blocks"]

LARGE_BYTES = 2 * 1024 * 1024
"""Ten seconds of 16-bit audio at 48 kHz are half of it."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def freeze() -> None:
    """Leave what start-up made out of every later garbage collection: shorter pauses."""
    gc.collect()
    gc.freeze()


def return_large_blocks() -> bool:
    """Have blocks of `LARGE_BYTES` and more, and as much at the heap's end, returned to the system once they are free.

    Returns:
      Whether that could be said: only glibc can be told, and not where the environment (`MALLOC_MMAP_THRESHOLD_`,
      `MALLOC_TRIM_THRESHOLD_`, `GLIBC_TUNABLES`) has told it already.
    """
    if platform.libc_ver()[0] != "glibc" or _is_told():
        return False
    libc = ctypes.CDLL(None)
    taken = [libc.mallopt(name, LARGE_BYTES) for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(taken)


def _is_told() -> bool:
    named = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys()
    return bool(named) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
