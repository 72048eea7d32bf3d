"""`headrace node`: create a node from a template, or check that nodes keep the contract."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import attrs
import click

from engine.catalogue.discovery import PluginBroken, load_file
from engine.catalogue.examples import example_params
from engine.cli.common.command import Command, Group
from engine.cli.common.failures import BadInput
from engine.cli.common.manifests import DATA
from engine.cli.common.terminal import print_json, printable
from engine.errors import Fault
from engine.manifest.parameters import build_node
from engine.strict_json import BadJson, load_json_object
from nodes.conformance import check_node, same_length
from nodes.contract import AnyNode, Audio, Join, Kind
from nodes.registry import BUILTIN

__all__ = ["node"]


@click.group(cls=Group, example="headrace node new Tremolo")
def node() -> None:
    """Create a node of your own, or check that nodes keep the contract."""


@node.command(
    cls=Command,
    short_help="Write a node and its test as a starting point.",
    example="headrace node new Tremolo --dir my_nodes",
    exits="0 success; 2 the name is invalid or taken, or a file exists already.",
)
@click.argument("name")
@click.option("--dir", "folder", default=".", type=click.Path(path_type=Path), help="Directory for the files.")
def new(name: str, folder: Path) -> None:
    """Write a working node called NAME, and its test. No file is overwritten."""
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or keyword.iskeyword(name):
        raise BadInput(f"{name!r} cannot be a node's name: use a class name, such as {_camel(name) or 'Tremolo'}")
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    _require_free(name, module)
    files = {folder / f"{module}.py": "new_node.py.txt", folder / f"test_{module}.py": "new_test.py.txt"}
    if there := [str(path) for path in files if path.exists()]:
        raise BadInput(f"{' and '.join(there)}: already there; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in files.items():
        text = Template((DATA / template).read_text(encoding="utf-8")).substitute(name=name, module=module)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(f"wrote {path}")
    click.echo(f"try  headrace node check {folder / module}.py")


def _require_free(name: str, module: str) -> None:
    """Check that a node's name is free, and that its module would not hide another one.

    Raises:
      BadInput: the name is taken, or its module would hide another one.
    """
    if name in BUILTIN:
        raise BadInput(f"the name {name!r} is taken by a node that comes with Headrace")
    hidden = find_spec(module)
    if hidden is not None and Path(hidden.origin or "").parent != Path.cwd():
        raise BadInput(f"{name!r} cannot be a node's name: its file {module}.py would hide the module {module!r}")


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.findall(r"[A-Za-z][A-Za-z0-9]*", name))


@attrs.frozen
class _Claims:
    """Forms of audio to check with, and the rules of the contract that a node may relax."""

    rates: tuple[int, ...]
    channels: tuple[int, ...]
    formats: tuple[str, ...]
    tolerance: float
    any_length: bool
    any_format: bool
    settles_s: float
    hour: bool


@node.command(
    cls=Command,
    short_help="Check that nodes keep the contract.",
    example="headrace node check my_nodes/tremolo.py",
    exits="0 all checks passed; 1 one failed; 2 the file cannot be used.",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--params", metavar="JSON", help="Parameters of the nodes.", show_default="none, or their example's")
@click.option("--rate", "rates", multiple=True, default=(16_000,), help="Sample rate, Hz; repeatable.")
@click.option("--channels", multiple=True, default=(1, 2), help="Channels; repeatable.")
@click.option(
    "--format", "formats", multiple=True, default=("f32", "i16", "i32"), type=click.Choice(["f32", "i16", "i32"]),
    help="Sample format; repeatable.",
)  # fmt: skip
@click.option("--tolerance", default=1e-6, help="Largest difference between samples of two cuts; 1 is full scale.")
@click.option("--any-length", is_flag=True, help="Allow an output with more or fewer frames than the input.")
@click.option("--any-format", is_flag=True, help="Allow an output in another sample format than the input.")
@click.option(
    "--settles-s",
    default=10.0,
    type=click.FloatRange(0.1),
    help="Audio after which a node's memory must not grow any more, s.",
)
@click.option("--hour", is_flag=True, help="Check the memory over an hour of audio, not over 4 x --settles-s.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check, one per line.")
def check(path: Path, params: str | None, as_json: bool, **claims: Any) -> None:
    """Run the conformance kit on every node of the Python file PATH, and print the outcome of each check.

    Cuts the same stream in several ways, with and without a gap, at every rate, format and number of channels: the
    output samples must be the same. A node with several inputs gets the same stream at two of them. Data that a node
    emits or takes can only be checked in the node's own test: see nodes/conformance.
    """
    try:
        found = load_file(path)
        given = None if params is None else load_json_object(params, max_bytes=64 << 10)
    except (PluginBroken, BadJson) as error:
        raise BadInput(f"{path if isinstance(error, PluginBroken) else '--params'}: {error}") from None
    failed = False
    for name, node_class in found.items():
        chosen = _params(name, node_class) if given is None else given
        for check_name, (status, reason) in _check_all(node_class, chosen, _Claims(**claims)).items():
            failed |= status == "failed"
            if as_json:
                print_json({"node_type": name, "check": check_name, "status": status, "reason": reason})
            else:
                click.echo(printable(f"{status:<8} {name}: {check_name}{reason and ': ' + reason}"))
    sys.exit(int(failed))


def _params(name: str, node_class: type[AnyNode]) -> Mapping[str, Any]:
    """Return no parameters if the defaults suffice, else those of the node's example."""
    return {} if build_node(node_class, {}, "", []) is not None else example_params(name, node_class)


Outcomes = dict[str, tuple[str, str]]
"""Check → ("passed", "failed" or "skipped"; the reason)."""


def _check_all(node_class: type[AnyNode], params: Mapping[str, Any], claims: _Claims) -> Outcomes:
    """Run every check on a node; the reason of a failure is the first one, with its form of audio."""
    faults: list[Fault] = []
    specimen = build_node(node_class, params, "params", faults)
    if specimen is None:
        return {"can be built": ("failed", "; ".join(map(str, faults)))}
    outcomes: Outcomes = {"can be built": ("passed", "")}
    if Kind.AUDIO not in specimen.takes:
        return {**outcomes, "takes audio": ("skipped", "it takes data alone: call check_node in the node's own test")}
    check_node(
        lambda: _connected(node_class(**params)),
        feed=_TwoInputs if isinstance(specimen, Join) else None,
        rates=claims.rates,
        channels=claims.channels,
        formats=claims.formats,
        tolerance=claims.tolerance,
        length=None if claims.any_length else same_length,
        keeps_format=not claims.any_format,
        settles_s=claims.settles_s,
        hour=claims.hour,
        report=partial(_record, outcomes),
    )
    return outcomes


def _record(outcomes: Outcomes, name: str, run: Callable[[], None]) -> None:
    """Run a check and record its outcome; `name` is the check's, with the form of audio after ": "."""
    check_name, _, form = name.partition(": ")
    try:
        run()
    except Exception as error:  # an error in the node is a failed check too
        raised = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        if outcomes.get(check_name, ("", ""))[0] != "failed":
            outcomes[check_name] = ("failed", f"{form}: {raised}")
    else:
        outcomes.setdefault(check_name, ("passed", ""))


_UPSTREAMS = ("a", "b")


def _connected(made: AnyNode) -> AnyNode:
    if isinstance(made, Join):
        made.connect(_UPSTREAMS)
    return made


class _TwoInputs:
    """Makes rows for a `Join`: the same block at both inputs."""

    def __call__(self, block: Audio | None) -> Mapping[str, list[Audio]] | None:
        return None if block is None else {name: [block] for name in _UPSTREAMS}
