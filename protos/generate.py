"""Regenerate the Python code beside the .proto files: `python protos/generate.py`.

It needs only Python and pip. The tools, pinned below, are installed in a temporary virtual environment, because
grpcio-tools needs an older protobuf than the newest that the engine runs on. Newer tools would generate code that the
oldest supported protobuf cannot run.

With `--check` nothing is written; the exit status is 1 if the committed code differs from the generated code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOOLS = ("grpcio-tools==1.76.0", "mypy-protobuf==5.1.0", "purerpc==0.8.0")

_ROOT = Path(__file__).resolve().parent.parent
_GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_grpc.py")
# purerpc's plugin writes a file for every .proto; these are not used, because the file has no service or its handlers
# are written by hand.
_UNUSED = ("common_grpc.py", "health_grpc.py", "reflection_v1_grpc.py", "reflection_v1alpha_grpc.py")


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python code of the .proto files.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="headrace-protos-") as scratch:
        wanted = _run_protoc(_install_tools(Path(scratch, "venv")), Path(scratch, "out"))
    differing = sorted(_differences(wanted, _read_generated(_ROOT)))
    if check:
        return _report(differing)
    for name in differing:
        _write(_ROOT / name, wanted.get(name))
    print("\n".join(differing) if differing else "generated code was already up to date")
    return 0


def _install_tools(directory: Path) -> Path:
    """Create the virtual environment of the tools and return its directory of programs."""
    venv.create(directory, with_pip=True)
    programs = directory / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", *TOOLS], check=True)
    return programs


def _run_protoc(programs: Path, out: Path) -> dict[str, bytes]:
    """Generate into `out`; return the contents by path relative to the repository's root."""
    out.mkdir()
    sources = sorted(path.relative_to(_ROOT).as_posix() for path in _ROOT.glob("protos/*.proto"))
    plugins = [f"--python_out={out}", f"--mypy_out=quiet:{out}", f"--purerpc_out={out}"]
    path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])  # protoc looks for its plugins here
    subprocess.run(
        [programs / "python", "-m", "grpc_tools.protoc", "-I.", *plugins, *sources],
        cwd=_ROOT,
        env={**os.environ, "PATH": path},
        check=True,
    )
    return {name: body for name, body in _read_generated(out).items() if Path(name).name not in _UNUSED}


def _read_generated(root: Path) -> dict[str, bytes]:
    paths = [path for pattern in _GENERATED for path in root.glob(f"protos/{pattern}")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _differences(wanted: dict[str, bytes], present: dict[str, bytes]) -> set[str]:
    """Name the files that are missing, stale or different."""
    return {name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name)}


def _write(path: Path, body: bytes | None) -> None:
    if body is None:
        path.unlink()
    else:
        path.write_bytes(body)


def _report(differing: list[str]) -> int:
    if not differing:
        return 0
    print("Generated code does not match the .proto files:", file=sys.stderr)
    for name in differing:
        print(f"  {name}", file=sys.stderr)
    print("Run `python protos/generate.py` and commit the result.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
