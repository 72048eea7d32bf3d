"""Answers to bad input: the error's type and sequence, the status, and a message that names the fact.

Each section is one row of the table of answers. An error either ends the session, with a status, or the session
continues.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from protos import common_pb2 as pb
from protos import streaming_pb2 as streaming
from tests.e2e.clients import Ended, Foreign, Talk, kinds, sequences
from tests.e2e.raw_messages import (
    CLOSE,
    ECHO,
    FLUSH,
    Request,
    Response,
    buffer,
    chunk,
    data,
    errors,
    execute_request,
    final_metrics,
    opening,
    pipeline,
    ramp,
    results,
    samples_of,
)

HALF_OF_VAD = pipeline({"in": "PassThrough", "vad": "VAD"}, "in>vad", outputs=["in"])


def ended_with(response: Response, end: Ended, error_type: int, code: str, *facts: str) -> None:
    """Check an error that came in band, and again in the status that ended the session."""
    error = response.error
    assert error.error_type == error_type
    for fact in facts:
        assert fact in error.message
    assert not error.retryable
    assert error.stack_trace == ""
    assert end.code == code
    assert end.message == error.message.partition("\n")[0]
    assert end.error == error


def refused(response: Response, error_type: int, sequence: int, *facts: str) -> None:
    """Check an error that came in band, about one chunk."""
    assert response.error.error_type == error_type
    assert response.WhichOneof("about") == "sequence"
    assert response.sequence == sequence
    for fact in facts:
        assert fact in response.error.message


def goes_on(talk: Talk, *requests: Request, delivered: int, refused: int, missing: int = 0) -> list[Response]:
    """End the session with status OK, and check its counts."""
    responses = talk.finish(*requests)
    metrics = final_metrics(responses)
    assert (metrics.delivered, metrics.refused, metrics.missing) == (delivered, refused, missing)
    return responses


# ---- out of turn


@pytest.mark.parametrize(
    ("first", "fact"),
    [
        (chunk(ramp()), "first message must have a manifest, got audio_chunk"),
        (data({}), "first message must have a manifest, got data_chunk"),
        (CLOSE, "first message must have a manifest, got control"),
        (Request(), "first message must have a manifest, got an empty request"),
        (Request(options=streaming.StreamOptions(lean=True)), "first message must have a manifest"),
        (b"\xff\xff\xff", "cannot be parsed"),
    ],
)
def test_no_manifest_first(foreign: Foreign, first: Request | bytes, fact: str) -> None:
    with foreign.stream(first) as talk:
        (only,) = talk.rest()
        ended_with(only, talk.end, pb.ERROR_TYPE_VALIDATION, "INVALID_ARGUMENT", fact)


def test_nothing_at_all(foreign: Foreign) -> None:
    (only,), end = foreign.whole()
    ended_with(only, end, pb.ERROR_TYPE_VALIDATION, "INVALID_ARGUMENT", "ended before a manifest came")


@pytest.mark.parametrize(
    ("second", "fact"),
    [
        (opening(), "a second manifest"),
        (Request(), "an empty request"),
        (Request(control=streaming.StreamControl()), "control command 0 is unknown"),
        (Request(control=streaming.StreamControl(command=99)), "control command 99 is unknown"),  # type: ignore[arg-type]
        (b"\x0a\xff", "cannot be parsed"),
    ],
)
def test_out_of_turn_in_a_session(foreign: Foreign, second: Request | bytes, fact: str) -> None:
    with foreign.session() as talk:
        talk.send(chunk(ramp()))
        talk.expect("result")
        talk.send(second)
        responses = talk.rest()
        assert kinds(responses) == ["ready", "result", "error", "metrics"]
        ended_with(errors(responses)[0], talk.end, pb.ERROR_TYPE_VALIDATION, "INVALID_ARGUMENT", fact)
        assert final_metrics(responses).delivered == 1


# ---- faults of the manifest


def raw_params(text: str) -> pb.PipelineManifest:
    manifest = pipeline({"in": "PassThrough", "gain": "Gain"}, "in>gain")
    manifest.nodes[1].params = text
    return manifest


def with_capabilities(**asked: Any) -> pb.PipelineManifest:
    manifest = pipeline({"in": "PassThrough"})
    manifest.nodes[0].capabilities.CopyFrom(pb.CapabilityRequirements(**asked))
    return manifest


THREE = {"a": "PassThrough", "b": "PassThrough", "c": "PassThrough"}

FAULTS: dict[str, tuple[pb.PipelineManifest, str]] = {
    "no version": (pb.PipelineManifest(nodes=ECHO.nodes), "version: must be 'v1', got ''"),
    "version": (pb.PipelineManifest(version="v2", nodes=ECHO.nodes), "version: must be 'v1', got 'v2'"),
    "no nodes": (pb.PipelineManifest(version="v1"), "nodes: must hold at least one node"),
    "empty id": (pipeline({"": "PassThrough"}), "nodes[0].id: must not be empty"),
    "long id": (pipeline({"x" * 129: "PassThrough"}), "nodes[0].id: 129 bytes long; the limit is 128"),
    "double id": (
        pb.PipelineManifest(version="v1", nodes=[*ECHO.nodes, *ECHO.nodes]),
        "nodes[1].id: 'in' is already the id of nodes[0]",
    ),
    "unknown type": (pipeline({"a": "PassThru"}), "nodes[0].node_type: 'PassThru' is unknown; known are A"),
    "unknown source": (
        pipeline(THREE, "x>a"),
        "connections[0].from: 'x' is not the id of a node; known are 'a', 'b', 'c'",
    ),
    "unknown target": (pipeline(THREE, "a>x"), "connections[0].to: 'x' is not the id of a node"),
    "self-loop": (pipeline(THREE, "a>a"), "connections[0]: connects 'a' to itself"),
    "double edge": (pipeline(THREE, "a>b", "a>b"), "connections[1]: connects 'a' to 'b' a second time"),
    "cycle": (pipeline(THREE, "a>b", "b>c", "c>a"), "connections: there is a cycle: "),
    "kinds": (
        pipeline({"vad": "VAD", "gain": "Gain"}, "vad>gain"),
        "connections[0]: 'vad' (VAD) gives data, but 'gain'",
    ),
    "not JSON": (raw_params('{"gain_db":\n  oops}'), "nodes[1].params: not JSON: Expecting value at line 2, column 3"),
    "not an object": (raw_params("[1]"), "nodes[1].params: must be a JSON object, got an array"),
    "NaN": (raw_params('{"gain_db": NaN}'), "nodes[1].params: NaN is not a JSON number"),
    "Infinity": (raw_params('{"gain_db": -Infinity}'), "nodes[1].params: -Infinity is not a JSON number"),
    "too deep": (raw_params('{"a":' + "[" * 9000 + "]" * 9000 + "}"), "nodes[1].params: nested deeper than 64 levels"),
    "long integer": (raw_params('{"gain_db": 1' + "0" * 5000 + "}"), "nodes[1].params: an integer of 5001 digits"),
    "long params": (raw_params('{"a": "' + "x" * 65536 + '"}'), "nodes[1].params: longer than 65536 bytes"),
    "unknown key": (raw_params('{"gain": 1}'), "nodes[1].params.gain: unknown parameter; known are gain_db"),
    "wrong kind": (raw_params('{"gain_db": "6"}'), "nodes[1].params.gain_db: must be a number, got '6'"),
    "out of range": (raw_params('{"gain_db": 121}'), "nodes[1].params.gain_db: must be at most 120, got 121"),
    "required": (pipeline({"a": "AudioResample"}), "nodes[0].params.target_sample_rate: is required"),
    "GPU": (with_capabilities(gpu={"type": "cuda", "required": True}), "nodes[0].capabilities.gpu: asks for a GPU of"),
    "cores": (with_capabilities(cpu={"cores": 100_000}), "nodes[0].capabilities.cpu.cores: asks for 100000 cores"),
    "arch": (
        with_capabilities(cpu={"arch": "mips"}),
        "nodes[0].capabilities.cpu.arch: asks for mips; this machine is ",
    ),
    "memory": (
        with_capabilities(memory_gb=1e6),
        "nodes[0].capabilities.memory_gb: asks for 1e+06 GB; this machine has",
    ),
    "too many nodes": (pipeline({f"n{i}": "PassThrough" for i in range(129)}), "nodes: 129 nodes; the limit is 128"),
    "too many edges": (
        pipeline({f"n{i}": "PassThrough" for i in range(40)}, *(f"n{i}>n{j}" for i in range(40) for j in range(13))),
        "connections: 520 connections; the limit is 512",
    ),
    "too large": (pipeline({"a": ("Gain", {"x": "y" * (1 << 20)})}), "bytes; the limit is 1048576"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_manifest_with_a_fault(foreign: Foreign, name: str) -> None:
    manifest, fault = FAULTS[name]
    with foreign.stream(opening(manifest)) as talk:
        (only,) = talk.rest()
        ended_with(only, talk.end, pb.ERROR_TYPE_VALIDATION, "INVALID_ARGUMENT", "the manifest has a fault:", fault)
    assert foreign.execute(execute_request(manifest)).error == only.error


def test_all_faults_of_a_manifest_together(foreign: Foreign) -> None:
    manifest = pipeline(
        {
            "a": ("AudioResample", {"target_sample_rate": -1, "convertor": "x"}),
            "b": "Nonesuch",
            "c": ("VAD", {"aggressiveness": 7}),
            "d": "PassThrough",
        },
        "a>d",
        "d>a",
        "c>zzz",
    )
    manifest.version = "v9"
    with foreign.stream(opening(manifest)) as talk:
        (only,) = talk.rest()
        ended_with(only, talk.end, pb.ERROR_TYPE_VALIDATION, "INVALID_ARGUMENT", "the manifest has 7 faults:")
    faults = {fault["path"]: fault["message"] for fault in json.loads(only.error.context)["faults"]}
    assert set(faults) == {
        "version",
        "nodes[0].params.target_sample_rate",
        "nodes[0].params.convertor",
        "nodes[1].node_type",
        "nodes[2].params.aggressiveness",
        "connections[2].to",
        "connections",
    }
    assert faults["nodes[0].params.target_sample_rate"] == "must be positive, got -1"
    for path, message in faults.items():
        assert f"{path}: {message}" in only.error.message
    assert "'a'" in faults["connections"]
    assert "'d'" in faults["connections"]


def test_what_is_no_fault(foreign: Foreign) -> None:
    manifest = pipeline({"in": "PassThrough"})
    manifest.ClearField("metadata")
    node = manifest.nodes[0]
    node.params, node.host, node.is_streaming, node.runtime_hint = "", "elsewhere", True, pb.RUNTIME_HINT_CPYTHON_WASM
    node.capabilities.gpu.type = "cuda"  # not required
    with foreign.session(manifest) as talk:
        talk.send(chunk(ramp()))
        ran = json.loads(talk.expect("result").result.node_results[0].output_metadata)
    assert ran["host"] != "elsewhere"
    assert ran["placement"] == "inline"


# ---- unknown nodes


@pytest.mark.parametrize(
    ("node", "facts"),
    [
        ("nowhere", ["'nowhere' is not a source", "sources are 'left', 'right'"]),
        ("mix", ["'mix' is not a source", "sources are 'left', 'right'"]),
        ("", ["node_id is empty", "'left', 'right'"]),
    ],
)
def test_a_chunk_for_no_source(foreign: Foreign, node: str, facts: list[str]) -> None:
    manifest = pipeline({"left": "PassThrough", "right": "Gain", "mix": "PassThrough"}, "left>mix", "right>mix")
    with foreign.session(manifest, reorder_timeout_ms=60_000) as talk:
        talk.send(chunk(ramp(), 4, node=node), data({}, 5, node=node))
        refused(talk.expect("error"), pb.ERROR_TYPE_VALIDATION, 4, *facts)
        refused(talk.expect("error"), pb.ERROR_TYPE_VALIDATION, 5, *facts)
        goes_on(talk, chunk(ramp(), 0, node="left"), chunk(ramp(), 0, node="right"), delivered=2, refused=2)


# ---- bad buffers


NAN, INF = np.float32("nan"), np.float32("inf")
TONE = np.linspace(-1, 1, 160, dtype=np.float32)
STEREO = np.zeros((80, 2), np.int16)

BUFFERS: dict[str, tuple[pb.AudioBuffer, list[str]]] = {
    "too few bytes": (buffer(TONE, num_samples=161), ["640 bytes", "num_samples = 161", "644"]),
    "too many bytes": (buffer(TONE, num_samples=159), ["640 bytes", "num_samples = 159", "636"]),
    "half a sample": (buffer(TONE, samples=b"\0" * 639), ["639 bytes", "num_samples = 160", "640"]),
    "no samples but a number": (buffer(TONE, samples=b""), ["0 bytes", "num_samples = 160"]),
    "a huge number": (buffer(TONE, num_samples=2**64 - 1), ["640 bytes", f"num_samples = {2**64 - 1}"]),
    "not divisible": (buffer(STEREO, channels=3), ["num_samples = 160 is not divisible by channels = 3"]),
    "no channels": (buffer(TONE, channels=0), ["channels must be 1 to 128, got 0"]),
    "1000 channels": (buffer(np.zeros((2, 1000), np.int16)), ["channels must be 1 to 128, got 1000"]),
    "no rate": (buffer(TONE, 0), ["sample_rate must be 1 to 768000 Hz, got 0"]),
    "too high a rate": (buffer(TONE, 2**32 - 1), ["sample_rate must be 1 to 768000 Hz, got 4294967295"]),
    "unspecified format": (buffer(TONE, format=0), ["format must be F32 (1), I16 (2) or I32 (3), got 0"]),
    "unknown format": (buffer(TONE, format=77), ["format must be F32 (1), I16 (2) or I32 (3), got 77"]),
    "no buffer": (pb.AudioBuffer(), ["format must be F32 (1), I16 (2) or I32 (3), got 0"]),
    "NaN": (buffer(np.where(np.arange(160) == 7, NAN, TONE)), ["sample 7 is nan", "finite"]),
    "infinity": (buffer(np.where(np.arange(160) == 9, -INF, TONE)), ["sample 9 is -inf", "finite"]),
    "another rate": (buffer(TONE, 8_000), ["f32 at 16000 Hz with 1 channel", "f32 at 8000 Hz", "FLUSH"]),
    "other channels": (buffer(np.zeros((80, 2), np.float32)), ["with 1 channel", "with 2 channels", "FLUSH"]),
    "another format": (buffer(np.zeros(160, np.int16)), ["f32 at 16000 Hz", "i16 at 16000 Hz", "FLUSH"]),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_a_bad_buffer(foreign: Foreign, name: str) -> None:
    bad, facts = BUFFERS[name]
    with foreign.session() as talk:
        assert talk.ask(chunk(buffer(TONE), 0)).sequence == 0
        refused(talk.ask(chunk(bad, 1), "error"), pb.ERROR_TYPE_VALIDATION, 1, *facts)
        after = talk.ask(chunk(buffer(TONE), 2))
        assert after.sequence == 2
        np.testing.assert_array_equal(samples_of(after.result.audio_outputs["in"])[:, 0], TONE)
        goes_on(talk, delivered=2, refused=1)


@pytest.mark.parametrize("name", [name for name in BUFFERS if not name.startswith(("another", "other"))])
def test_a_bad_buffer_in_a_unary_call(foreign: Foreign, name: str) -> None:
    bad, facts = BUFFERS[name]
    answer = foreign.execute(execute_request(ECHO, {"in": bad}))
    assert answer.WhichOneof("outcome") == "error"
    assert answer.error.error_type == pb.ERROR_TYPE_VALIDATION
    for fact in facts:
        assert fact in answer.error.message


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{", "data: not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("[]", "data: must be a JSON object, got an array"),
        ('{"a": 1, "a": 2}', "the key 'a' appears twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "longer than 1048576 bytes"),
    ],
)
def test_bad_data(foreign: Foreign, text: str, fact: str) -> None:
    with foreign.session() as talk:
        talk.send(data(text, 0), data({"fine": True}, 1))
        refused(talk.expect("error"), pb.ERROR_TYPE_VALIDATION, 0, fact)
        assert json.loads(talk.expect("result").result.data_outputs["in"]) == {"fine": True}
        goes_on(talk, delivered=1, refused=1)
    assert fact in foreign.execute(execute_request(ECHO, data={"in": text})).error.message


def test_the_wrong_kind_for_a_source(foreign: Foreign) -> None:
    with foreign.session(pipeline({"gain": "Gain"})) as talk:
        talk.send(data({}, 0))
        refused(talk.expect("error"), pb.ERROR_TYPE_VALIDATION, 0, "source 'gain' takes audio, got data")
        goes_on(talk, chunk(ramp(), 1), delivered=1, refused=1)


# ---- what a node refuses


def test_a_node_refuses_and_the_other_branch_keeps_what_it_has(foreign: Foreign) -> None:
    with foreign.session(HALF_OF_VAD) as talk:
        talk.send(chunk(ramp(), 0, rate=50))
        error, result = talk.expect("error"), talk.expect("result")
        refused(error, pb.ERROR_TYPE_NODE_EXECUTION, 0, "node 'vad' (VAD) rejected its input: cannot convert 50 Hz")
        assert error.error.failing_node_id == "vad"
        context = json.loads(error.error.context)
        assert context["node_type"] == "VAD"
        assert context["inputs"] == ["160x1 i16 at 50 Hz"]
        assert result.sequence == 0
        assert result.result.status == pb.EXECUTION_STATUS_PARTIAL_SUCCESS
        assert set(result.result.audio_outputs) == {"in"}
        by_node = {node.node_id: node for node in result.result.node_results}
        assert by_node["in"].status == pb.NODE_STATUS_SUCCESS
        assert by_node["vad"].status == pb.NODE_STATUS_FAILED
        assert by_node["vad"].error == error.error

        talk.send(FLUSH, chunk(ramp(), 1))
        assert talk.expect("result").flush
        assert "vad" in talk.expect("result").result.data_outputs
        metrics = final_metrics(talk.finish())
        assert (metrics.received, metrics.rejected, metrics.delivered, metrics.refused) == (2, 1, 1, 0)


def test_a_node_refuses_in_a_unary_call(foreign: Foreign) -> None:
    answer = foreign.execute(execute_request(HALF_OF_VAD, {"in": buffer(ramp(), 50)}))
    assert answer.error.error_type == pb.ERROR_TYPE_NODE_EXECUTION
    assert answer.error.failing_node_id == "vad"
    assert "rejected its input" in answer.error.message


# ---- sequence numbers


def test_a_duplicate_of_a_delivered_chunk(foreign: Foreign) -> None:
    with foreign.session() as talk:
        talk.send(*(chunk(ramp(i), i) for i in (5, 6, 7)), chunk(ramp(), 6))
        responses = goes_on(talk, delivered=3, refused=1)
    refused(errors(responses)[0], pb.ERROR_TYPE_VALIDATION, 6, "sequence 6 has been received from source 'in' before")
    assert sequences(results(responses)) == [5, 6, 7, 7]


def test_a_duplicate_of_a_waiting_chunk(foreign: Foreign) -> None:
    with foreign.session(reorder_timeout_ms=60_000) as talk:
        assert talk.ask(chunk(ramp(0), 0)).sequence == 0
        talk.send(chunk(ramp(2), 2), chunk(ramp(), 2))
        refused(talk.expect("error"), pb.ERROR_TYPE_VALIDATION, 2, "sequence 2 has been received from source 'in'")
        responses = goes_on(talk, chunk(ramp(1), 1), delivered=3, refused=1)
    assert sequences(results(responses)) == [0, 1, 2, 2]
    np.testing.assert_array_equal(samples_of(results(responses)[2].result.audio_outputs["in"])[:, 0], ramp(2))


def test_a_late_chunk(foreign: Foreign) -> None:
    with foreign.session() as talk:
        assert talk.ask(chunk(ramp(5), 5)).sequence == 5
        error = talk.ask(chunk(ramp(3), 3), "error")
        refused(error, pb.ERROR_TYPE_VALIDATION, 3, "sequence 3 is late: 6 is the next expected")
        goes_on(talk, delivered=1, refused=1)


def test_a_hole_is_waited_for_and_then_counted(foreign: Foreign) -> None:
    with foreign.session(reorder_timeout_ms=100) as talk:
        talk.send(chunk(ramp(0), 0), chunk(ramp(2), 2))
        assert talk.expect("result").sequence == 0
        assert talk.expect("result").sequence == 2
        error = talk.ask(chunk(ramp(1), 1), "error")
        refused(error, pb.ERROR_TYPE_VALIDATION, 1, "sequence 1 is late: 3 is the next expected")
        goes_on(talk, delivered=2, refused=1, missing=1)


def test_a_hole_that_is_filled_in_time_is_none(foreign: Foreign) -> None:
    order = [0, 3, 2, 1, 5, 4]
    with foreign.session(reorder_timeout_ms=60_000) as talk:
        responses = goes_on(talk, *(chunk(ramp(i), i) for i in order), delivered=6, refused=0)
    assert sequences(results(responses)) == [0, 1, 2, 3, 4, 5, 5]


def test_holes_are_settled_when_the_window_is_full(foreign: Foreign) -> None:
    with foreign.session(reorder_timeout_ms=60_000, reorder_window=4) as talk:
        talk.send(*(chunk(ramp(i), i) for i in (0, 2, 4, 6, 8)))
        for sequence in (0, 2):
            assert talk.expect("result").sequence == sequence
        goes_on(talk, delivered=5, refused=0, missing=4)


@pytest.mark.parametrize("settle", [FLUSH, CLOSE], ids=["FLUSH", "CLOSE"])
def test_holes_are_settled_by_flush_and_close(foreign: Foreign, settle: Request) -> None:
    with foreign.session(reorder_timeout_ms=60_000) as talk:
        talk.send(*(chunk(ramp(i), i) for i in (0, 2, 5)), settle)
        for sequence, flush in ((0, False), (2, False), (5, False), (5, True)):
            result = talk.expect("result")
            assert (result.sequence, result.flush) == (sequence, flush)
        talk.half_close()
        assert final_metrics(talk.rest()).missing == 3


def test_jumps(foreign: Foreign) -> None:
    with foreign.session(reorder_timeout_ms=100) as talk:
        assert talk.ask(chunk(ramp(), 0)).sequence == 0
        error = talk.ask(chunk(ramp(), 65_538), "error")
        refused(error, pb.ERROR_TYPE_VALIDATION, 65_538, "65537 ahead of 1", "at most 65536")
        assert talk.ask(chunk(ramp(), 65_537)).sequence == 65_537
        goes_on(talk, delivered=2, refused=1, missing=65_536)


def test_the_highest_number(foreign: Foreign) -> None:
    top = 2**64 - 1
    with foreign.session() as talk:
        assert talk.ask(chunk(ramp(), 7)).sequence == 7
        error = talk.ask(chunk(ramp(), top), "error")
        refused(error, pb.ERROR_TYPE_VALIDATION, top, f"sequence {top} is", "a jump may be at most")
        goes_on(talk, delivered=1, refused=1)
    with foreign.session() as talk:
        assert talk.ask(chunk(ramp(), top - 1)).sequence == top - 1
        assert talk.ask(chunk(ramp(), top)).sequence == top
        refused(talk.ask(chunk(ramp(), 0), "error"), pb.ERROR_TYPE_VALIDATION, 0, "sequence 0 is late")
        goes_on(talk, delivered=2, refused=1)


def test_every_chunk_numbered_zero(foreign: Foreign) -> None:
    with foreign.session() as talk:
        assert talk.ask(chunk(ramp())).sequence == 0
        for _ in range(2):
            error = talk.ask(chunk(ramp()), "error")
            refused(error, pb.ERROR_TYPE_VALIDATION, 0, "is every chunk numbered 0?", "rise by one")
        goes_on(talk, delivered=1, refused=2)


# ---- limits


def test_over_the_limit_of_samples(foreign: Foreign) -> None:
    with foreign.session(max_audio_samples=320) as talk:
        talk.send(chunk(np.zeros(321, np.int16), 0), chunk(np.zeros((161, 2), np.int16), 1))
        for sequence, samples in ((0, 321), (1, 322)):
            error = talk.expect("error")
            refused(error, pb.ERROR_TYPE_RESOURCE_LIMIT, sequence, f"a chunk of {samples} samples; the limit is 320")
            assert json.loads(error.error.context) == {"value": samples, "limit": 320}
        goes_on(talk, chunk(np.zeros(320, np.int16), 2), delivered=1, refused=2)
    answer = foreign.execute(execute_request(ECHO, {"in": buffer(np.zeros(321, np.int16))}, max_audio_samples=320))
    assert answer.error.error_type == pb.ERROR_TYPE_RESOURCE_LIMIT
    assert "321 samples; the limit is 320" in answer.error.message


def test_a_chunk_over_the_limit_of_memory(foreign: Foreign) -> None:
    with foreign.session(max_memory_bytes=10_000) as talk:
        talk.send(chunk(np.zeros(5_001, np.int16), 0), chunk(ramp(), 1))
        error = talk.expect("error")
        refused(error, pb.ERROR_TYPE_RESOURCE_LIMIT, 0, "10002 bytes", "memory limit is 10000")
        assert json.loads(error.error.context) == {"value": 10_002, "limit": 10_000}
        assert talk.expect("result").sequence == 1
        goes_on(talk, delivered=1, refused=1)
    answer = foreign.execute(execute_request(ECHO, {"in": buffer(np.zeros(5_001, np.int16))}, max_memory_bytes=10_000))
    assert answer.error.error_type == pb.ERROR_TYPE_RESOURCE_LIMIT
    assert "10002 bytes" in answer.error.message


def test_a_node_makes_more_than_the_limit_of_memory(foreign: Foreign) -> None:
    manifest = pipeline({"up": ("AudioResample", {"target_sample_rate": 192_000})})
    with foreign.session(manifest, max_memory_bytes=200_000) as talk:
        talk.send(chunk(np.zeros(8_000, np.int16), 0, rate=8_000))
        error, result = talk.expect("error"), talk.expect("result")
        refused(error, pb.ERROR_TYPE_RESOURCE_LIMIT, 0, "bytes from node 'up' do not fit", "200000 accounted bytes")
        assert error.error.failing_node_id == "up"
        assert result.result.status == pb.EXECUTION_STATUS_PARTIAL_SUCCESS
        assert not result.result.audio_outputs
        metrics = final_metrics(talk.finish())
        assert metrics.rejected == 1
        assert metrics.peak_memory_bytes <= 200_000


def test_over_the_limit_of_time(foreign: Foreign) -> None:
    manifest = pipeline({"slow": ("AudioResample", {"target_sample_rate": 16_000, "converter": "sinc_best"})})
    with foreign.session(manifest, max_timeout_ms=1) as talk:
        talk.send(chunk(np.zeros(48_000, np.float32), 0, rate=48_000))
        responses = talk.rest()
        assert kinds(responses) == ["ready", "error", "metrics"]
        error = errors(responses)[0]
        ended_with(
            error, talk.end, pb.ERROR_TYPE_RESOURCE_LIMIT, "DEADLINE_EXCEEDED", "node 'slow'", "the limit is 1 ms"
        )
        assert error.sequence == 0
        assert error.error.failing_node_id == "slow"
        context = json.loads(error.error.context)
        assert context["limit_ms"] == 1
        assert context["value_ms"] > 1
        assert final_metrics(responses).cancelled == 1
    answer = foreign.execute(
        execute_request(manifest, {"": buffer(np.zeros(480_000, np.float32), 48_000)}, max_timeout_ms=1)
    )
    assert answer.error.error_type == pb.ERROR_TYPE_RESOURCE_LIMIT
    assert "limit" in answer.error.message


def test_limits_are_clamped_to_the_services_maxima(foreign: Foreign) -> None:
    with foreign.session(max_audio_samples=2**63, max_memory_bytes=2**63, max_timeout_ms=2**63) as talk:
        goes_on(talk, chunk(ramp()), delivered=1, refused=0)


# ---- versions


@pytest.mark.parametrize("version", ["v2", "2.0.0", "v0.9", "latest", "v1.2.3.4", "v" + "1" * 5000])
def test_a_client_version_that_is_not_supported(foreign: Foreign, version: str) -> None:
    with foreign.stream(opening(client_version=version)) as talk:
        (only,) = talk.rest()
        ended_with(
            only, talk.end, pb.ERROR_TYPE_VERSION_MISMATCH, "FAILED_PRECONDITION", version[:40], "supported are v1"
        )
        assert json.loads(only.error.context)["supported"] == ["v1"]
    assert foreign.execute(execute_request(ECHO, client_version=version)).error == only.error


# ---- after the end


def test_chunks_after_close_are_refused(foreign: Foreign) -> None:
    with foreign.session() as talk:
        talk.send(chunk(ramp(0), 0), CLOSE, chunk(ramp(1), 1), FLUSH)
        talk.half_close()
        responses = talk.rest()
        assert talk.end.code == "OK"
    for error in errors(responses):
        assert error.error.error_type == pb.ERROR_TYPE_VALIDATION
        assert "closed" in error.error.message
    assert final_metrics(responses).delivered == 1
