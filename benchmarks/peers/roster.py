"""Roster of the measured peers, with the ways to find and install them.

A peer runs in the first of three interpreters that can import it: the current one, where it shares Headrace's versions
of its dependencies; an environment of its own, which `install` builds in XDG_CACHE_HOME/headrace/peers; or the
system's. MediaPipe needs an environment of its own, because its protobuf is older than ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["PEERS", "ROOT", "Found", "InstallFailed", "Missing", "Peer", "find", "install"]

ROOT = Path(__file__).resolve().parents[2]
_SYSTEM_PYTHON = "/usr/bin/python3"
_PROBE_S = 60.0


class InstallFailed(Exception):
    """Pip failed; the message is the last line of its error output."""


@attrs.frozen(kw_only=True)
class Peer:
    """System to measure.

    Attributes:
      about: Short description.
      modules: Modules that its programs import.
      versions: Expression for a dict of versions, after `modules` and importlib.metadata's `version` are imported.
      pip: Requirement for pip, run in the root of this repository; empty if there is nothing for pip to install.
      apt: Debian packages.
    """

    about: str
    modules: tuple[str, ...] = ()
    versions: str = "{}"
    pip: str = ""
    apt: str = ""

    def install_line(self, name: str) -> str:
        """Return the command that installs the peer."""
        if self.apt:
            return f"apt-get install -y --no-install-recommends {self.apt}"
        return f"python -m benchmarks peers --install --only {name}"


def _of(*packages: str) -> str:
    return "{" + ", ".join(f"{package!r}: version({package!r})" for package in packages) + "}"


PEERS: Mapping[str, Peer] = {
    "headrace": Peer(about="Headrace"),
    "driver": Peer(about="Headrace's transport alone, without its engine"),
    "trio": Peer(about="bare trio tasks and channels"),
    "grpcio": Peer(
        about="a server written by hand on grpcio's aio",
        modules=("grpc.aio", "uvloop"),
        versions=_of("grpcio", "uvloop"),
        pip=".[peers-grpcio]",
    ),
    "purerpc": Peer(about="the same on stock purerpc", modules=("purerpc",), versions=_of("purerpc")),
    "pipecat": Peer(
        about="Pipecat, in process and over its WebSocket transport",
        modules=("pipecat.workers.runner", "fastapi", "uvicorn", "uvloop", "samplerate", "webrtcvad"),
        versions=_of("pipecat-ai", "uvicorn", "uvloop"),
        pip=".[peers-pipecat]",
    ),
    "bytewax": Peer(about="a bytewax dataflow", modules=("bytewax",), versions=_of("bytewax"), pip=".[peers-bytewax]"),
    "mediapipe": Peer(
        about="a MediaPipe graph", modules=("mediapipe",), versions=_of("mediapipe"), pip="mediapipe==0.10.14"
    ),
    "gstreamer": Peer(
        about="a GStreamer pipeline",
        modules=("gi.repository.Gst",),
        versions='{"gstreamer": ".".join(map(str, gi.repository.Gst.version()[:3])), "pygobject": gi.__version__}',
        apt="python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base",
    ),
}


@attrs.frozen
class Found:
    """Peer that can run.

    Attributes:
      python: Interpreter to run it with.
      versions: Package → version, of the packages that matter.
    """

    python: str
    versions: Mapping[str, str]


@attrs.frozen
class Missing:
    """Peer that cannot run, with the command that installs it."""

    install: str


def find(name: str) -> Found | Missing:
    """Search the interpreters for a peer."""
    peer = PEERS[name]
    if not peer.modules:
        return Found(sys.executable, {})
    for python in (sys.executable, str(_environment(name) / "bin" / "python"), _SYSTEM_PYTHON):
        if (versions := _probe(python, peer)) is not None:
            return Found(python, versions)
    return Missing(peer.install_line(name))


def _probe(python: str, peer: Peer) -> Mapping[str, str] | None:
    """Return a peer's versions in an interpreter; None if it cannot be imported there."""
    imports = "".join(f"import {module}\n" for module in peer.modules)
    code = f"import json\nfrom importlib.metadata import version\n{imports}print(json.dumps({peer.versions}))"
    try:
        probe = subprocess.run(
            [python, "-W", "ignore", "-c", code], cwd="/", capture_output=True, text=True, timeout=_PROBE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    versions: dict[str, str] = json.loads(probe.stdout.splitlines()[-1])
    return versions


def install(name: str) -> None:
    """Build a peer's own environment, unless the peer is found without it or has nothing for pip to install.

    Raises:
      InstallFailed: pip failed.
    """
    requirement = PEERS[name].pip
    if not requirement or isinstance(find(name), Found):
        return
    place = _environment(name)
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True)
    command = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallFailed(done.stderr.strip().splitlines()[-1])


def _environment(name: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "headrace" / "peers" / name
