"""The command line as a user runs it: in its own process, or in click's runner if no signal or server is needed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import soundfile
from click.testing import CliRunner, Result

from engine.cli import main

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120


def invoke(*args: str | Path, input: str | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(each) for each in args], input=input, prog_name="headrace")


def lines_of(text: str) -> list[dict[str, Any]]:
    """Parse text with a JSON object on every line."""
    return [json.loads(line) for line in text.splitlines()]


def of_type(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == name]


@attrs.frozen
class Finished:
    """Process that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.out)

    @property
    def complaints(self) -> list[str]:
        """Lines of standard error, without those on nodes that held the event loop: on a busy machine, any may."""
        return [line for line in self.err.splitlines() if "held the event loop" not in line]


class Program:
    """`python -m …` in a process of its own, away from the source tree.

    Its pipes have no buffers here, so that nothing is read ahead.
    """

    started: ClassVar[list[Program]] = []

    def __init__(self, *args: str | Path, module: str = "engine", cwd: Path | str = "/") -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        )
        self.started.append(self)

    def line(self, containing: str = "") -> str:
        """Read lines up to the first one that contains a text, and return that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if containing in (text := line.decode()):
                return text
        raise AssertionError(f"it ended without {containing!r}: {self.process.communicate()[1].decode()}")

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def finish(self) -> Finished:
        """Wait for the end of the process; lines that `line` has read are not in the output."""
        try:
            out, err = self.process.communicate(timeout=TIMEOUT_S)
        finally:
            self.process.kill()
        return Finished(self.process.returncode, out.decode(), err.decode())


def stop_all() -> None:
    """Kill processes that a failed test has left running."""
    while Program.started:
        program = Program.started.pop()
        program.process.kill()
        for pipe in (program.process.stdout, program.process.stderr):
            assert pipe is not None
            pipe.close()
        program.process.wait(TIMEOUT_S)


def run_program(*args: str | Path) -> Finished:
    return Program(*args).finish()


def run_on_terminal(*args: str) -> Finished:
    """Run a command whose output is a terminal of 100 columns."""
    mine, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "engine", *args], stdin=theirs, stdout=theirs, stderr=theirs, cwd="/", env=environment
    ) as process:
        os.close(theirs)
        pieces = []
        with suppress(OSError):  # the terminal's end is reported as an error
            while piece := os.read(mine, 65_536):
                pieces.append(piece)
        os.close(mine)
    return Finished(process.wait(TIMEOUT_S), b"".join(pieces).decode(errors="replace"), "")


@contextmanager
def server() -> Iterator[tuple[Program, str]]:
    """Run a server process; yields it and its address."""
    program = Program("--port", "0", module="engine.serve")
    try:
        match = re.search(r"listening on (\S+)", program.line("listening on"))
        assert match is not None
        yield program, match[1]
    finally:
        program.signal(signal.SIGTERM)
        program.finish()


def write_tone(
    path: Path, *, frames: int = 48_000, rate: int = 48_000, channels: int = 1, subtype: str = "FLOAT"
) -> Path:
    """Write a 440 Hz tone at half of full scale."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(frames) / rate)
    soundfile.write(path, np.repeat(tone[:, np.newaxis], channels, axis=1), rate, subtype=subtype)
    return path


def write_manifest(path: Path, nodes: dict[str, Any], connections: Iterable[tuple[str, str]] = ()) -> Path:
    """Write a manifest; `nodes` maps a node id to a node type, or to a whole node without its id."""
    specs = [{"id": name, **(spec if isinstance(spec, dict) else {"node_type": spec})} for name, spec in nodes.items()]
    links = [{"from": source, "to": target} for source, target in connections]
    path.write_text(json.dumps({"version": "v1", "nodes": specs, "connections": links}))
    return path


RESAMPLE = {"node_type": "AudioResample", "params": {"target_sample_rate": 16_000}}
