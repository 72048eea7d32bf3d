"""Test the checker: every rule alone and together, each fault at its path, and the plan of a valid manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ManifestInvalid
from engine.manifest import Capabilities, Connection, Cpu, Gpu, Manifest, NodeSpec, manifest_from_dict
from engine.manifest.capabilities import Machine
from engine.manifest.checker import make_plan
from engine.manifest.plan import Caps, Plan
from nodes.contract import Kind, parameter
from tests.engine.harness import Kinds, Probe, wire

MACHINE = Machine(cores=4, arch="x86_64", memory_gb=8.0, gpus={"cuda": 6.0})


@attrs.define(eq=False, slots=False)
class Knobs(Probe):
    """Node with a required parameter, a bounded one and one with choices."""

    level: int = parameter(help="needed", at_least=0, at_most=9)
    gain: float = parameter(1.0, help="optional", above=0)
    mode: str = parameter("a", help="one of two", choices=("a", "b"))


@attrs.define(eq=False, slots=False)
class Lagging(Probe):
    seconds: float = parameter(0.0, help="delay")

    @property
    def delay(self) -> float:
        return self.seconds


class Pair(Probe):
    """Node that requires two upstream nodes."""

    def connect(self, upstreams: Sequence[str]) -> None:
        if len(upstreams) != 2:
            raise ValueError(f"wants two upstream nodes, got {len(upstreams)}")


class Slip(Probe):
    """Node with a bug in `connect`."""

    def connect(self, upstreams: Sequence[str]) -> None:
        raise KeyError("slip")


class Sticky(Probe):
    def close(self) -> None:
        super().close()
        raise OSError("stuck")


def new_kinds() -> Kinds:
    return Kinds(Knobs, Lagging, Pair, Slip, Sticky)


def plan(manifest: Manifest, kinds: Kinds | None = None, **caps: int) -> Plan:
    return make_plan(manifest, kinds or new_kinds(), caps=Caps(**caps), machine=MACHINE)


def faults(manifest: Manifest, **caps: int) -> list[str]:
    """Return all faults as text, and check that every node built was closed once."""
    kinds = new_kinds()
    with pytest.raises(ManifestInvalid) as caught:
        plan(manifest, kinds, **caps)
    kinds.assert_closed_once()
    assert [fault["path"] for fault in caught.value.context["faults"]] == [f.path for f in caught.value.faults]
    return [str(fault) for fault in caught.value.faults]


def one(**spec: Any) -> Manifest:
    return Manifest("v1", (NodeSpec(**{"id": "a", "node_type": "Pass", **spec}),))


def nodes(*ids: str) -> tuple[NodeSpec, ...]:
    return tuple(NodeSpec(name, "Pass") for name in ids)


# ---- each rule -------------------------------------------------------------------------------

RULES: dict[str, tuple[Manifest, list[str]]] = {
    "the version": (Manifest("v2", nodes("a")), ["version: must be 'v1', got 'v2'"]),
    "no version": (Manifest("", nodes("a")), ["version: must be 'v1', got ''"]),
    "exactly the version": (Manifest("V1", nodes("a")), ["version: must be 'v1', got 'V1'"]),
    "no nodes": (Manifest("v1", ()), ["nodes: must hold at least one node"]),
    "an empty id": (Manifest("v1", nodes("")), ["nodes[0].id: must not be empty"]),
    "an id twice": (Manifest("v1", nodes("a", "b", "a")), ["nodes[2].id: 'a' is already the id of nodes[0]"]),
    "an id thrice": (
        Manifest("v1", nodes("a", "a", "a")),
        ["nodes[1].id: 'a' is already the id of nodes[0]", "nodes[2].id: 'a' is already the id of nodes[0]"],
    ),
    "an edge from nowhere": (
        Manifest("v1", nodes("a"), (Connection("x", "a"),)),
        ["connections[0].from: 'x' is not the id of a node; known are 'a'"],
    ),
    "an edge to nowhere": (
        Manifest("v1", nodes("a"), (Connection("a", ""),)),
        ["connections[0].to: '' is not the id of a node; known are 'a'"],
    ),
    "a self-loop": (Manifest("v1", nodes("a"), (Connection("a", "a"),)), ["connections[0]: connects 'a' to itself"]),
    "an edge twice": (
        Manifest("v1", nodes("a", "b"), (Connection("a", "b"), Connection("a", "b"))),
        ["connections[1]: connects 'a' to 'b' a second time"],
    ),
    "a cycle": (
        Manifest("v1", nodes("a", "b"), (Connection("a", "b"), Connection("b", "a"))),
        ["connections: there is a cycle: 'a' → 'b' → 'a'"],
    ),
    "an unknown type": (
        one(node_type="Nope"),
        [f"nodes[0].node_type: 'Nope' is unknown; known are {', '.join(sorted(new_kinds()))}"],
    ),
    "nothing in common": (
        wire("a > b", a="Hear", b="Read"),
        ["connections[0]: 'a' (Hear) gives audio, but 'b' (Read) takes data"],
    ),
    "an unknown parameter": (
        one(params={"x": 1}),
        ["nodes[0].params.x: unknown parameter; Pass has no parameters"],
    ),
    "a parameter out of range": (
        one(node_type="Knobs", params={"level": 10}),
        ["nodes[0].params.level: must be at most 9, got 10"],
    ),
    "a required parameter": (
        one(node_type="Knobs", params={}),
        ["nodes[0].params.level: is required: needed"],
    ),
    "several parameters": (
        one(node_type="Knobs", params='{"level": "x", "gain": -1, "mode": "c", "y": 0}'),
        [
            "nodes[0].params.y: unknown parameter; known are level, gain, mode",
            "nodes[0].params.level: must be a whole number, got 'x'",
            "nodes[0].params.gain: must be positive, got -1",
            "nodes[0].params.mode: must be one of 'a', 'b', got 'c'",
        ],
    ),
    "bad JSON": (
        one(params='{"x": 1,\n  "y" 2}'),
        ["nodes[0].params: not JSON: Expecting ':' delimiter at line 2, column 7"],
    ),
    "JSON that is no object": (one(params="[1]"), ["nodes[0].params: must be a JSON object, got an array"]),
    "NaN in text": (one(params='{"x": NaN}'), ["nodes[0].params: NaN is not a JSON number"]),
    "what the upstream nodes are not": (wire("a > p", p="Pair"), ["nodes[1].params: wants two upstream nodes, got 1"]),
    "a node author's slip": (
        wire("a > s", s="Slip"),
        ["nodes[1].params: Slip cannot be connected: KeyError: 'slip'"],
    ),
    "cores": (
        one(capabilities=Capabilities(cpu=Cpu(cores=5))),
        ["nodes[0].capabilities.cpu.cores: asks for 5 cores; this machine has 4"],
    ),
    "negative cores": (
        one(capabilities=Capabilities(cpu=Cpu(cores=-1))),
        ["nodes[0].capabilities.cpu.cores: must not be negative, got -1"],
    ),
    "architecture": (
        one(capabilities=Capabilities(cpu=Cpu(arch="ARM64"))),
        ["nodes[0].capabilities.cpu.arch: asks for ARM64; this machine is x86_64"],
    ),
    "memory": (
        one(capabilities=Capabilities(memory_gb=8.5)),
        ["nodes[0].capabilities.memory_gb: asks for 8.5 GB; this machine has 8.0 GB"],
    ),
    "memory that is no number": (
        one(capabilities=Capabilities(memory_gb=float("nan"))),
        ["nodes[0].capabilities.memory_gb: must be a finite number of at least 0, got nan"],
    ),
    "a GPU of a kind": (
        one(capabilities=Capabilities(gpu=Gpu("metal", required=True))),
        ["nodes[0].capabilities.gpu: asks for a GPU of type metal; this machine has cuda"],
    ),
    "a GPU's memory": (
        one(capabilities=Capabilities(gpu=Gpu("cuda", 8.0, required=True))),
        ["nodes[0].capabilities.gpu.min_memory_gb: asks for 8 GB; the GPU of this machine has 6 GB"],
    ),
}


@pytest.mark.parametrize(("manifest", "expected"), RULES.values(), ids=RULES)
def test_each_rule(manifest: Manifest, expected: list[str]) -> None:
    assert faults(manifest) == expected


def test_all_faults_are_reported_together() -> None:
    manifest = Manifest(
        "v0",
        (
            NodeSpec("a", "Hear"),
            NodeSpec("a", "Nope"),
            NodeSpec("", "Knobs", "{"),
            NodeSpec("r", "Read", capabilities=Capabilities(cpu=Cpu(cores=64), memory_gb=1e6)),
            NodeSpec("k", "Knobs", {"level": -1}),
            NodeSpec("h", "Hear"),
        ),
        (Connection("h", "r"), Connection("k", "k"), Connection("x", "y"), Connection("r", "k"), Connection("k", "r")),
    )
    assert [fault.split(":")[0] for fault in faults(manifest)] == [
        "version",
        "nodes[2].id",
        "nodes[1].id",
        "nodes[1].node_type",
        "nodes[2].params",
        "nodes[3].capabilities.cpu.cores",
        "nodes[3].capabilities.memory_gb",
        "nodes[4].params.level",
        "connections[1]",
        "connections[2].from",
        "connections[2].to",
        "connections",
        "connections[0]",
    ]


def test_every_cycle_is_named() -> None:
    found = faults(wire("a > b > a, c > d > e > c, f > a"))
    assert [fault.count("→") for fault in found] == [2, 3]
    assert all("cycle" in fault for fault in found)


def test_nan_in_an_object_is_a_fault_too() -> None:
    (fault,) = faults(one(params={"x": float("nan")}))
    assert fault.startswith("nodes[0].params: cannot be encoded as JSON: ")


def test_the_message_lists_the_faults() -> None:
    with pytest.raises(ManifestInvalid, match=r"2 faults:\n  version: .*\n  nodes\[0\]\.node_type: "):
        plan(Manifest("v2", (NodeSpec("a", "Nope"),)))


def test_without_a_gpu_none_is_claimed() -> None:
    asks = one(capabilities=Capabilities(gpu=Gpu(required=True)))
    with pytest.raises(ManifestInvalid, match="asks for a GPU; this machine has none"):
        make_plan(asks, new_kinds(), machine=attrs.evolve(MACHINE, gpus={}))


@pytest.mark.parametrize(
    "capabilities",
    [
        Capabilities(),
        Capabilities(Gpu("metal", 99.0, required=False), Cpu(4, "amd64"), 8.0),
        Capabilities(Gpu("", 6.0, required=True)),
    ],
)
def test_what_is_met_or_only_wished_for_is_no_fault(capabilities: Capabilities) -> None:
    plan(one(capabilities=capabilities)).close()


def test_a_node_that_fails_to_close_keeps_no_other_open() -> None:
    assert faults(wire("a > b > c > d", b="Sticky", d="Nope"))


# ---- caps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifest", "caps", "expected"),
    [
        (Manifest("v1", nodes("a", "b", "c")), {"nodes": 2}, "nodes: 3 nodes; the limit is 2"),
        (wire("a > b > c"), {"edges": 1}, "connections: 2 connections; the limit is 1"),
        (Manifest("v1", nodes("é" * 3)), {"id_bytes": 5}, "nodes[0].id: 6 bytes long; the limit is 5"),
        (one(params='{"x": 1}'), {"params_bytes": 7}, "nodes[0].params: longer than 7 bytes"),
        (one(params={"x": 1}), {"params_bytes": 7}, "nodes[0].params: longer than 7 bytes"),
    ],
)
def test_caps(manifest: Manifest, caps: Mapping[str, int], expected: str) -> None:
    assert faults(manifest, **caps) == [expected]


def test_what_is_just_within_the_caps_is_taken() -> None:
    plan(wire("aa > bb > cc"), nodes=3, edges=2, id_bytes=2, params_bytes=2).close()


def test_the_default_caps() -> None:
    assert Caps() == Caps(128, 512, 128, 65_536)
    assert not _is_refused(Manifest("v1", nodes(*map(str, range(128)))))
    assert _is_refused(Manifest("v1", nodes(*map(str, range(129)))))


def _is_refused(manifest: Manifest) -> bool:
    try:
        plan(manifest).close()
    except ManifestInvalid:
        return True
    return False


# ---- plans -----------------------------------------------------------------------------------


def test_nodes_are_in_topological_order_and_know_their_edges() -> None:
    made = plan(wire("d > c > a, d > b > a"))
    place = {node.id: node.index for node in made.nodes}
    assert sorted(place.values()) == [0, 1, 2, 3]
    assert all(edge.source < edge.target for node in made.nodes for edge in node.inbound)
    last = made.nodes[place["a"]]
    assert [made.nodes[edge.source].id for edge in last.inbound] == ["c", "b"], "in the order of the connections"
    assert (last.is_sink, last.is_output, last.is_source) == (True, True, False)
    assert list(made.sources) == ["d"]
    made.close()


def test_edges_carry_what_both_ends_know() -> None:
    made = plan(wire("both > hear, both > all", hear="Hear"))
    edges = {made.nodes[edge.target].id: edge for node in made.nodes for edge in node.outbound}
    assert (edges["hear"].kinds, edges["hear"].filters) == (Kind.AUDIO, True)
    assert (edges["all"].kinds, edges["all"].filters) == (Kind.BOTH, False)
    made.close()


def test_sources_are_in_the_manifests_order() -> None:
    made = plan(wire("z > c, y > c, x > c"))
    assert list(made.sources) == ["z", "y", "x"]
    made.close()


def test_params_may_be_an_object_or_text_or_nothing() -> None:
    for params in ({"level": 3}, '{"level": 3}', ' {"level":\n3} '):
        made = plan(one(node_type="Knobs", params=params))
        assert made.nodes[0].params == {"level": 3}
        made.close()
    plan(one(params="")).close()
    plan(one(params=" \n")).close()


def test_streaming_or_not_is_all_the_same() -> None:
    for is_streaming in (False, True):
        plan(one(is_streaming=is_streaming)).close()


def test_delays_add_up_along_the_longest_path() -> None:
    lag = {f"l{i}": ("Lagging", {"seconds": float(i)}) for i in range(5)}
    made = plan(wire("a > l1 > l2 > z, a > l4 > z, a > z, l3", **lag))
    assert made.delay_s() == 4.0
    made.close()
    made = plan(wire("a > l1 > l4 > z, a > l2 > z", **lag))
    assert made.delay_s() == 5.0
    made.close()


def test_where_a_node_runs_is_told() -> None:
    made = plan(wire("a > b", b="Threaded"))
    assert '"placement": "inline"' in made.nodes[0].metadata
    assert '"placement": "thread"' in made.nodes[1].metadata
    made.close()


# ---- garbage ---------------------------------------------------------------------------------

NAME = st.sampled_from(["", "a", "b", "c", "ü" * 70, "\ud800"])
TYPE = st.sampled_from(["Pass", "Hear", "Read", "Knobs", "Meet", "Slip", "Nope", ""])
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just(10**400), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
PARAMS = st.one_of(
    VALUE,
    st.sampled_from(["", "{", "[1]", '{"level": 1}', '{"level": NaN}', '{"level": 1, "level": 2}']),
    st.fixed_dictionaries({"level": VALUE}, optional={"gain": VALUE, "mode": VALUE}),
)


def _or(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(value, value, value, VALUE)


NODE = st.fixed_dictionaries(
    {"id": _or(NAME), "node_type": _or(TYPE)},
    optional={
        "params": PARAMS,
        "is_streaming": _or(st.booleans()),
        "is_output": _or(st.booleans()),
        "host": _or(st.text()),
        "runtime_hint": _or(st.sampled_from(["auto", "RUNTIME_HINT_CPYTHON", "x"])),
        "capabilities": _or(
            st.fixed_dictionaries(
                {},
                optional={
                    "gpu": _or(st.fixed_dictionaries({}, optional={"type": VALUE, "required": VALUE})),
                    "cpu": _or(st.fixed_dictionaries({}, optional={"cores": VALUE, "arch": VALUE})),
                    "memory_gb": VALUE,
                },
            )
        ),
        "what": VALUE,
    },
)
GARBAGE = st.one_of(
    VALUE,
    st.fixed_dictionaries(
        {"version": _or(st.just("v1")), "nodes": _or(st.lists(_or(NODE), max_size=4))},
        optional={
            "connections": _or(st.lists(_or(st.fixed_dictionaries({"from": _or(NAME), "to": _or(NAME)})), max_size=4)),
            "metadata": _or(st.fixed_dictionaries({}, optional={"name": VALUE})),
        },
    ),
)


@settings(max_examples=300)
@given(GARBAGE)
def test_garbage_is_a_fault_and_never_an_exception(garbage: Any) -> None:
    """Any dict makes a plan or raises `ManifestInvalid`, with at least one fault and a message that can be encoded."""
    kinds = new_kinds()
    try:
        made = plan(manifest_from_dict(garbage), kinds)
    except ManifestInvalid as error:
        assert error.faults  # noqa: PT017
        error.message.encode("utf-8", "backslashreplace")
        error.context_json()
    else:
        made.close()
    kinds.assert_closed_once()
