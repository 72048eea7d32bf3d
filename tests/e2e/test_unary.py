"""GetVersion and ExecutePipeline, as a client that knows only the data model calls them."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import pytest
import samplerate

from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from tests.e2e.clients import Foreign
from tests.e2e.raw_messages import ECHO, buffer, execute_request, pipeline, ramp, samples_of
from tests.e2e.sounds import as_float, direct_decisions, speech


def executed(foreign: Foreign, request: execution.ExecuteRequest) -> pb.ExecutionResult:
    response = foreign.execute(request)
    assert response.WhichOneof("outcome") == "result", response.error
    return response.result


# ---- versions


@pytest.mark.parametrize("version", ["", "v1", "1", "v1.0", "v1.0.0", "1.99.3", "v1.2.0-rc.1", "v01"])
def test_versions_that_are_served(foreign: Foreign, version: str) -> None:
    answer = foreign.get_version(version)
    assert answer.compatible
    assert answer.compatibility_message == ""
    assert executed(foreign, execute_request(ECHO, {"in": buffer(ramp())}, client_version=version)).audio_outputs


@pytest.mark.parametrize(
    "version", ["v2", "v2.0.0", "0", "v0.2.1", "v10", "one", "v1.", "v1.0.0.0", " v1", "v1\n", "v¹"]
)
def test_versions_that_are_not(foreign: Foreign, version: str) -> None:
    answer = foreign.get_version(version)
    assert not answer.compatible
    assert repr(version) in answer.compatibility_message
    assert "supported are v1" in answer.compatibility_message
    assert answer.version_info.protocol_version == "v1"


def test_what_the_service_is(foreign: Foreign) -> None:
    info = foreign.get_version().version_info
    assert info.protocol_version == "v1"
    assert list(info.supported_protocols) == ["v1"]
    assert {"PassThrough", "AudioResample", "AudioFormatConverter", "VAD"} <= set(info.supported_node_types)
    assert list(info.supported_node_types) == sorted(info.supported_node_types)
    assert info.runtime_version
    assert datetime.fromisoformat(info.build_timestamp).tzinfo is not None


@pytest.mark.parametrize("method", ["GetVersion", "ExecutePipeline"])
def test_a_request_that_cannot_be_parsed(foreign: Foreign, method: str) -> None:
    response, ended = foreign.unary(method, b"\xff\xff\xff")
    if response is None:
        assert ended.code == "INVALID_ARGUMENT"
        error = ended.error
    else:
        assert ended.code == "OK"
        error = execution.ExecuteResponse.FromString(response).error
    assert error.error_type == pb.ERROR_TYPE_VALIDATION
    assert "3 bytes cannot be parsed" in error.message


def test_a_method_that_is_not_there(foreign: Foreign) -> None:
    response, ended = foreign.unary("DestroyPipeline", b"")
    assert response is None
    assert ended.code == "UNIMPLEMENTED"
    assert "DestroyPipeline" in ended.message


# ---- results


@pytest.mark.parametrize("form", ["float32", "int16", "int32"])
@pytest.mark.parametrize("channels", [1, 2, 128])
def test_audio_comes_back_as_it_went_in(foreign: Foreign, form: str, channels: int) -> None:
    rng = np.random.default_rng(3)
    sent = (rng.random((4_000, channels)) * 20_000 - 10_000).astype(form)
    result = executed(foreign, execute_request(ECHO, {"in": buffer(sent, 8_000)}))
    got = result.audio_outputs["in"]
    assert (got.sample_rate, got.channels, got.format) == (8_000, channels, buffer(sent).format)
    np.testing.assert_array_equal(samples_of(got), sent)


def test_a_long_input_in_one_piece(foreign: Foreign) -> None:
    """The input is longer than the blocks of one second that it is cut into."""
    sent = speech(44_100, 3.35)
    manifest = pipeline(
        {
            "in": "PassThrough",
            "resample": ("AudioResample", {"target_sample_rate": 16_000, "converter": "sinc_medium"}),
            "vad": ("VAD", {"aggressiveness": 3}),
            "level": "AudioLevel",
        },
        "in>resample",
        "resample>vad",
        "in>level",
        outputs=["resample"],
    )
    result = executed(foreign, execute_request(manifest, {"in": buffer(as_float(sent), 44_100)}))
    assert set(result.audio_outputs) == {"resample"}
    assert set(result.data_outputs) == {"vad", "level"}

    audio = result.audio_outputs["resample"]
    ours = samples_of(audio)[:, 0]
    assert audio.sample_rate == 16_000
    assert len(ours) == len(sent) * 16_000 // 44_100
    theirs = samplerate.resample(as_float(sent), 16_000 / 44_100, "sinc_medium")
    np.testing.assert_allclose(ours[: len(theirs)], theirs[: len(ours)], rtol=0, atol=1e-6)

    as_16_bit = np.clip(np.rint(ours * 32768), -32768, 32767).astype(np.int16)
    assert json.loads(result.data_outputs["vad"])["decisions"] == direct_decisions(as_16_bit, 16_000, 3)
    level = json.loads(result.data_outputs["level"])
    assert level["frames"] == len(sent)
    rms = 10 * np.log10(np.mean(np.square(sent / 32768.0)))
    assert level["rms_dbfs"] == pytest.approx(rms, abs=1e-3)
    assert result.status == pb.EXECUTION_STATUS_SUCCESS


def test_data_goes_through_as_json(foreign: Foreign) -> None:
    sent = {"text": "žluťoučký 🐴", "numbers": [1, -2.5e-3, 2**53 + 1], "nested": {"null": None, "true": True}}
    result = executed(foreign, execute_request(ECHO, data={"in": json.dumps(sent)}))
    assert json.loads(result.data_outputs["in"]) == sent
    assert not result.audio_outputs
    assert result.status == pb.EXECUTION_STATUS_SUCCESS


@pytest.mark.parametrize("name", ["", "in"])
def test_the_only_source_needs_no_name(foreign: Foreign, name: str) -> None:
    result = executed(foreign, execute_request(ECHO, {name: buffer(ramp())}))
    assert result.audio_outputs["in"].num_samples == 160


def test_an_empty_input(foreign: Foreign) -> None:
    result = executed(foreign, execute_request(ECHO, {"in": buffer(np.zeros(0, np.int16))}))
    assert result.audio_outputs["in"].num_samples == 0


# ---- results per node, and figures


def test_every_node_tells_what_became_of_it(foreign: Foreign) -> None:
    manifest = pipeline(
        {"fed": "PassThrough", "gain": ("Gain", {"gain_db": -6}), "idle": "PassThrough", "after": "Gain"},
        "fed>gain",
        "idle>after",
    )
    result = executed(foreign, execute_request(manifest, {"fed": buffer(ramp())}))
    assert result.status == pb.EXECUTION_STATUS_PARTIAL_SUCCESS
    nodes = {node.node_id: node for node in result.node_results}
    assert {name: node.status for name, node in nodes.items()} == {
        "fed": pb.NODE_STATUS_SUCCESS,
        "gain": pb.NODE_STATUS_SUCCESS,
        "idle": pb.NODE_STATUS_SKIPPED,
        "after": pb.NODE_STATUS_SKIPPED,
    }
    for node in nodes.values():
        assert not node.HasField("error")
        ran = json.loads(node.output_metadata)
        assert ran["placement"] == "inline"
        assert ran["runtime"]
        assert ran["host"]
    assert set(result.audio_outputs) == {"gain"}


def test_figures_are_measured(foreign: Foreign) -> None:
    sent = speech(48_000, 2.0)
    manifest = pipeline(
        {"resample": ("AudioResample", {"target_sample_rate": 16_000, "converter": "sinc_best"}), "vad": "VAD"},
        "resample>vad",
    )
    result = executed(foreign, execute_request(manifest, {"": buffer(as_float(sent), 48_000)}))
    metrics = result.metrics
    assert set(metrics.node_metrics) == {"resample", "vad"}
    resample, vad = metrics.node_metrics["resample"], metrics.node_metrics["vad"]
    assert 0 < resample.max_execution_time_ms <= resample.execution_time_ms
    assert 0 < vad.max_execution_time_ms <= vad.execution_time_ms
    assert resample.execution_time_ms + vad.execution_time_ms < metrics.wall_time_ms
    assert resample.samples_processed == len(sent)
    assert vad.samples_processed == len(sent) // 3
    assert resample.chunks == 2
    assert resample.queue_time_ms > 0
    assert metrics.cpu_time_ms > 0
    assert 0 < metrics.serialization_time_ms < metrics.wall_time_ms
    assert metrics.memory_used_bytes >= 4 * len(sent)
    assert json.loads(vad.custom_metrics)["vad_segments"] >= 1


def test_audio_and_data_for_one_source(foreign: Foreign) -> None:
    request = execute_request(ECHO, {"in": buffer(ramp())}, {"in": '{"a": 1}'})
    result = executed(foreign, request)
    np.testing.assert_array_equal(samples_of(result.audio_outputs["in"])[:, 0], ramp())
    assert json.loads(result.data_outputs["in"]) == {"a": 1}
