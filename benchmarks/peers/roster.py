"""Who is measured: the peers, where each is found, and how each is installed.

A peer runs in an interpreter that can import it: the one that runs this, where it has the versions that Headrace has;
else an environment of its own, which `install` builds in XDG_CACHE_HOME/headrace/peers; else the system's. MediaPipe
cannot do without its own, since its protobuf is older than ours.
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
    """pip's last words."""


@attrs.frozen(kw_only=True)
class Peer:
    """Somebody to measure.

    Attributes:
      about: What it is.
      modules: That its programs import.
      versions: An expression for a dict of them, after `modules` and importlib.metadata's `version` are imported.
      pip: What pip installs, from this directory; empty is nothing, or Debian's.
      apt: Debian's packages.
    """

    about: str
    modules: tuple[str, ...] = ()
    versions: str = "{}"
    pip: str = ""
    apt: str = ""

    def install_line(self, name: str) -> str:
        """What a user types."""
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
    """A peer that can run.

    Attributes:
      python: The interpreter.
      versions: Of what matters.
    """

    python: str
    versions: Mapping[str, str]


@attrs.frozen
class Missing:
    """A peer that cannot, and what to type so that it can."""

    install: str


def find(name: str) -> Found | Missing:
    """Look for a peer."""
    peer = PEERS[name]
    if not peer.modules:
        return Found(sys.executable, {})
    for python in (sys.executable, str(_environment(name) / "bin" / "python"), _SYSTEM_PYTHON):
        if (versions := _probe(python, peer)) is not None:
            return Found(python, versions)
    return Missing(peer.install_line(name))


def _probe(python: str, peer: Peer) -> Mapping[str, str] | None:
    """Its versions in an interpreter; None if it is not there."""
    imports = "".join(f"import {module}\n" for module in peer.modules)
    code = f"import json\nfrom importlib.metadata import version\n{imports}print(json.dumps({peer.versions}))"
    try:
        told = subprocess.run(
            [python, "-W", "ignore", "-c", code], cwd="/", capture_output=True, text=True, timeout=_PROBE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    versions: dict[str, str] = json.loads(told.stdout.splitlines()[-1])
    return versions


def install(name: str) -> None:
    """Build a peer's own environment, if it cannot be found without; nothing where pip has nothing to install.

    Raises:
      InstallFailed: pip cannot.
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
