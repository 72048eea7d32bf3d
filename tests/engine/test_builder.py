"""Test that manifests built in Python equal those from JSON, and have the same faults."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ManifestInvalid
from engine.manifest import Capabilities, Cpu, Gpu, Manifest, Pipeline, manifest_from_dict, manifest_from_json
from engine.manifest.checker import make_plan
from nodes.audio_resample import AudioResample
from nodes.channel_mixer import ChannelMixer
from nodes.gain import Gain
from nodes.mix import Mix
from nodes.registry import BUILTIN
from nodes.vad import VAD


def speech() -> Pipeline:
    return (
        Pipeline("speech", "where there is some")
        .add("resample", AudioResample(target_sample_rate=16_000), is_output=True)
        .add("vad", VAD(aggressiveness=3, forward_audio=True))
        .add("level", "AudioLevel")
        .connect("resample", "vad", "level")
    )


def test_a_pipeline_is_the_manifest_that_its_json_gives() -> None:
    told = {
        "version": "v1",
        "metadata": {"name": "speech", "description": "where there is some"},
        "nodes": [
            {
                "id": "resample",
                "node_type": "AudioResample",
                "params": {"target_sample_rate": 16_000},
                "is_output": True,
            },
            {"id": "vad", "node_type": "VAD", "params": {"aggressiveness": 3, "forward_audio": True}},
            {"id": "level", "node_type": "AudioLevel"},
        ],
        "connections": [{"from": "resample", "to": "vad"}, {"from": "vad", "to": "level"}],
    }
    assert speech().manifest() == manifest_from_dict(told)
    assert json.loads(speech().to_json()) == told
    make_plan(speech().manifest(), BUILTIN).close()


def test_faults_are_told_as_those_of_json() -> None:
    def faults(manifest: Manifest) -> list[str]:
        with pytest.raises(ManifestInvalid) as caught:
            make_plan(manifest, BUILTIN)
        return list(map(str, caught.value.faults))

    pipeline = speech().add("vad", "Vad", {"agressiveness": 1}).add("", Mix(weights={"x": 2.0})).connect("vad", "who")
    told = faults(pipeline.manifest())
    assert told == faults(manifest_from_json(pipeline.to_json()))
    assert [fault.partition(":")[0] for fault in told] == [
        "nodes[4].id",
        "nodes[3].id",
        "nodes[3].node_type",
        "connections[2].to",
        "nodes[4].params",
    ]


def test_what_json_cannot_say_is_a_fault_either_way() -> None:
    pipeline = Pipeline().add("a", "Gain", {"gain_db": np.float32(3)}).add("b", "Gain", {"gain_db": float("nan")})
    with pytest.raises(ManifestInvalid) as of_json:
        pipeline.to_json()
    with pytest.raises(ManifestInvalid) as of_plan:
        make_plan(pipeline.manifest(), BUILTIN)
    assert [fault.path for fault in of_json.value.faults] == ["nodes[0].params", "nodes[1].params"]
    assert str(of_json.value) == str(of_plan.value)


def test_tuples_are_lists() -> None:
    mixer = ChannelMixer(matrix=((1.0, 0.0), (0.0, 1.0)))  # type: ignore[arg-type]
    manifest = Pipeline().add("mix", mixer).manifest()
    assert manifest.nodes[0].params == {"matrix": [[1.0, 0.0], [0.0, 1.0]]}


def test_misuse_is_told_at_once() -> None:
    with pytest.raises(TypeError, match="has its parameters already"):
        Pipeline().add("a", Gain(), {"gain_db": 3})
    with pytest.raises(TypeError, match=r"'a': pass a node, not its class: Gain\(...\)"):
        Pipeline().add("a", Gain)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="at least two ids"):
        Pipeline().connect("a")


IDS = st.sampled_from(["a", "b", "ü", "Ω x"])
NODES = st.one_of(
    st.builds(Gain, gain_db=st.floats(-120, 120)),
    st.builds(Mix, weights=st.dictionaries(IDS, st.floats(-9, 9), max_size=2)),
    st.builds(ChannelMixer, pick=st.lists(st.integers(0, 3), min_size=1, max_size=3)),
)
NEEDS = st.none() | st.builds(
    Capabilities,
    gpu=st.none() | st.builds(Gpu, type=st.sampled_from(["", "cuda"]), required=st.booleans()),
    cpu=st.none() | st.builds(Cpu, cores=st.integers(0, 64)),
    memory_gb=st.floats(0, 8),
)


@given(st.lists(st.tuples(IDS, NODES, st.booleans(), NEEDS), max_size=4), st.lists(st.tuples(IDS, IDS), max_size=4))
def test_json_gives_back_what_was_built(nodes: list[Any], links: list[tuple[str, str]]) -> None:
    pipeline = Pipeline("π")
    for name, node, is_output, needs in nodes:
        pipeline.add(name, node, is_output=is_output, capabilities=needs)
    for link in links:
        pipeline.connect(*link)
    assert manifest_from_json(pipeline.to_json()) == pipeline.manifest()
