"""Helpers that run foreign programs, and our own servers, in child processes and always end them."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0


@contextmanager
def module_serving(module: str) -> Iterator[int]:
    """Run a module that serves and prints its port first; yield the port."""
    process = subprocess.Popen(
        [sys.executable, "-m", module], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(START_S), f"{module} said nothing within {START_S} s"
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=60)


def run(*command: str | Path, timeout_s: float = 180.0, cwd: Path = ROOT) -> str:
    """Run a program, check that it exits with 0, and return its output."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} exits {done.returncode}:\n{done.stdout}"
    return done.stdout
