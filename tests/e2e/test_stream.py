"""StreamPipeline: order, flushes and endings, echoed fields, metrics, and dropped chunks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from protos import common_pb2 as pb
from protos import streaming_pb2 as streaming
from tests.e2e.clients import Foreign, kinds, sequences
from tests.e2e.raw_messages import (
    CANCEL,
    CLOSE,
    ECHO,
    FLUSH,
    chunk,
    data,
    errors,
    final_metrics,
    joined_audio,
    joined_data,
    opening,
    pipeline,
    ramp,
    results,
    samples_of,
)
from tests.e2e.sounds import speech

BIG = 16_384  # frames of 16 bits: a chunk of 32 kB


# ---- beginning


def test_ready_tells_of_the_session(foreign: Foreign) -> None:
    manifest = pipeline({"up": ("AudioResample", {"target_sample_rate": 16_000})})
    with foreign.session(manifest) as one, foreign.session(ECHO, input_capacity=3) as other:
        assert one.ready.session_id != other.ready.session_id
        assert (one.ready.input_capacity, other.ready.input_capacity) == (32, 3)
        assert one.ready.max_delay_ms > 0
        assert other.ready.max_delay_ms == 0
        assert one.ready.recommended_chunk_ms > 0
        assert final_metrics(one.finish()).session_id == one.ready.session_id


def test_the_exact_delay_is_below_its_bound(foreign: Foreign) -> None:
    manifest = pipeline({"up": ("AudioResample", {"target_sample_rate": 16_000})})
    with foreign.session(manifest) as talk:
        metrics = final_metrics(talk.finish(chunk(speech(48_000, 0.02), rate=48_000)))
        assert 0 < metrics.delay_ms <= talk.ready.max_delay_ms


# ---- results


def test_each_chunk_has_its_result_in_order(foreign: Foreign) -> None:
    with foreign.session() as talk:
        responses = talk.finish(*(chunk(ramp(i), 1000 + i, timestamp_ms=5_000 + 10 * i) for i in range(200)))
    *answers, flush = results(responses)
    assert sequences(answers) == list(range(1000, 1200))
    for i, answer in enumerate(answers):
        assert answer.timestamp_ms == 5_000 + 10 * i
        assert answer.result.status == pb.EXECUTION_STATUS_SUCCESS
        np.testing.assert_array_equal(samples_of(answer.result.audio_outputs["in"])[:, 0], ramp(i))
    assert flush.flush
    assert flush.sequence == 1199
    metrics = final_metrics(responses)
    assert (metrics.received, metrics.accepted, metrics.delivered, metrics.total_samples) == (200, 200, 200, 32_000)


def test_results_have_maps_per_node_unless_lean(foreign: Foreign) -> None:
    manifest = pipeline({"in": "PassThrough", "vad": "VAD", "gain": "Gain"}, "in>vad", "in>gain")
    with foreign.session(manifest) as talk:
        full = talk.ask(chunk(speech(16_000, 0.1))).result
        assert {node.node_id for node in full.node_results} == set(full.metrics.node_metrics) == {"in", "vad", "gain"}
        assert all(node.status == pb.NODE_STATUS_SUCCESS for node in full.node_results)
        vad = full.metrics.node_metrics["vad"]
        assert vad.execution_time_ms > 0
        assert vad.samples_processed == 1_600
        assert full.metrics.wall_time_ms > 0
        assert 0 < full.metrics.serialization_time_ms < full.metrics.wall_time_ms
        assert full.metrics.memory_used_bytes >= 3_200
    with foreign.session(manifest, lean=True) as talk:
        lean = talk.ask(chunk(speech(16_000, 0.1))).result
        assert not lean.node_results
        assert not lean.metrics.node_metrics
        assert lean.metrics.wall_time_ms > 0
        assert lean.data_outputs == full.data_outputs
        assert lean.audio_outputs["gain"] == full.audio_outputs["gain"]


def test_outputs_of_sinks_and_of_those_asked_for(foreign: Foreign) -> None:
    nodes = {"a": "PassThrough", "b": ("Gain", {"gain_db": -6}), "c": ("Gain", {"gain_db": -6})}
    with foreign.session(pipeline(nodes, "a>b", "b>c")) as talk:
        assert set(talk.ask(chunk(ramp())).result.audio_outputs) == {"c"}
    with foreign.session(pipeline(nodes, "a>b", "b>c", outputs=["a", "c"])) as talk:
        outputs = talk.ask(chunk(ramp())).result.audio_outputs
        assert set(outputs) == {"a", "c"}
        np.testing.assert_array_equal(samples_of(outputs["a"])[:, 0], ramp())


def test_data_chunks(foreign: Foreign) -> None:
    with foreign.session() as talk:
        responses = talk.finish(*(data({"n": i}, i, timestamp_ms=100 + i) for i in range(40)))
    assert joined_data(responses, "in") == [{"n": i} for i in range(40)]
    assert [each.timestamp_ms for each in results(responses)[:40]] == list(range(100, 140))


def test_several_sources_share_their_numbers(foreign: Foreign) -> None:
    manifest = pipeline({"left": "PassThrough", "right": "PassThrough", "mix": "Mix"}, "left>mix", "right>mix")
    left, right = speech(16_000, 1.0, seed=1), speech(16_000, 1.0, seed=2) // 2
    with foreign.session(manifest, reorder_timeout_ms=60_000) as talk:
        for i in range(50):
            part = slice(320 * i, 320 * i + 320)
            talk.send(chunk(right[part], i, node="right"), chunk(left[part], i, node="left"))
        responses = talk.finish()
    assert sequences(results(responses)) == [*range(50), 49]
    sent = np.clip(left.astype(np.int32) + right, -32768, 32767)
    assert np.abs(joined_audio(responses, "mix")[:, 0] - sent).max() <= 1
    assert final_metrics(responses).delivered == 100


def test_a_row_goes_without_a_source_that_is_silent_for_too_long(foreign: Foreign) -> None:
    manifest = pipeline({"left": "PassThrough", "right": "PassThrough"})
    with foreign.session(manifest, reorder_timeout_ms=500) as talk:
        talk.send(chunk(ramp(0), 0, node="left"), chunk(ramp(0), 0, node="right"))
        assert set(talk.expect("result").result.audio_outputs) == {"left", "right"}
        result = talk.ask(chunk(ramp(1), 1, node="left"))
        assert set(result.result.audio_outputs) == {"left"}
        assert result.result.status == pb.EXECUTION_STATUS_PARTIAL_SUCCESS
        by_node = {node.node_id: node.status for node in result.result.node_results}
        assert by_node == {"left": pb.NODE_STATUS_SUCCESS, "right": pb.NODE_STATUS_SKIPPED}
        assert final_metrics(talk.finish()).missing == 1


# ---- flush and the ends


def test_flush_always_has_an_answer(foreign: Foreign) -> None:
    with foreign.session(pipeline({"vad": "VAD"})) as talk:
        first = talk.ask(FLUSH)
        assert first.flush
        assert first.WhichOneof("about") is None  # no row has been answered yet
        assert talk.ask(chunk(speech(16_000, 0.1), 7)).sequence == 7
        for _ in range(2):
            answer = talk.ask(FLUSH)
            assert (answer.flush, answer.sequence) == (True, 7)
        assert talk.ask(chunk(speech(16_000, 0.1), 8)).sequence == 8


@pytest.mark.parametrize("how", ["CLOSE", "half-close", "both"])
def test_the_end(foreign: Foreign, how: str) -> None:
    manifest = pipeline({"up": ("AudioResample", {"target_sample_rate": 48_000})})
    with foreign.session(manifest) as talk:
        talk.send(*(chunk(speech(16_000, 0.02), i) for i in range(10)))
        if how != "half-close":
            talk.send(CLOSE)
        if how != "CLOSE":
            talk.half_close()
        responses = talk.rest()
        assert talk.end.code == "OK"
        assert talk.end.details == b""
    assert kinds(responses) == ["ready", *["result"] * 11, "metrics"]
    assert responses[-2].flush
    assert len(joined_audio(responses, "up")) == 9_600
    final_metrics(responses)


def test_an_end_without_a_chunk(foreign: Foreign) -> None:
    responses, end = foreign.whole(opening())
    assert kinds(responses) == ["ready", "result", "metrics"]
    assert responses[1].flush
    assert final_metrics(responses).received == 0
    assert end.code == "OK"


def test_cancel(foreign: Foreign) -> None:
    with foreign.session(reorder_timeout_ms=60_000) as talk:
        assert talk.ask(chunk(ramp(), 0)).sequence == 0
        talk.send(chunk(ramp(), 2), chunk(ramp(), 3), CANCEL)  # these wait for number 1
        responses = talk.rest()
        assert talk.end.code == "OK"
    assert kinds(responses) == ["ready", "result", "metrics"]
    metrics = final_metrics(responses)
    assert (metrics.delivered, metrics.cancelled) == (1, 2)


def test_cancel_overtakes_what_waits_in_the_window(foreign: Foreign) -> None:
    """The client reads nothing, so all credits are used, chunks wait, and the CANCEL is queued behind them."""
    chunks = [chunk(ramp(i, BIG), i) for i in range(7)]
    with foreign.session(input_capacity=2) as talk:
        talk.send(*chunks, CANCEL)
        talk.wait_quiet(0.2)
        foreign.get_version()  # by its answer, the server has read all earlier messages
        responses = talk.rest()
        assert talk.end.code in ("OK", "CANCELLED"), talk.end
    assert len(results(responses)) < len(chunks)
    if talk.end.code == "OK":
        metrics = final_metrics(responses)
        assert metrics.cancelled >= 1
        assert metrics.received < len(chunks)
        numbers = sequences(results(responses))
        assert numbers == list(range(len(numbers)))
        assert len(numbers) == metrics.delivered  # with the one on its way when the CANCEL was read


# ---- metrics


def test_periodic_metrics(foreign: Foreign) -> None:
    with foreign.session(metrics_interval_ms=50) as talk:
        talk.ask(chunk(ramp(), 0))
        periodic = talk.expect("metrics").metrics
        assert not periodic.final
        assert periodic.session_id == talk.ready.session_id
        assert (periodic.received, periodic.accepted, periodic.delivered, periodic.in_flight) == (1, 1, 1, 0)
        assert 0 < periodic.average_latency_ms <= periodic.max_latency_ms
        assert periodic.node_metrics["in"].chunks == 1
        later = talk.expect("metrics").metrics
        assert later.received == 1
        final_metrics(talk.finish())


def test_final_metrics_add_up(foreign: Foreign) -> None:
    manifest = pipeline({"in": "PassThrough", "vad": "VAD"}, "in>vad")
    with foreign.session(manifest, reorder_timeout_ms=60_000) as talk:
        for i in range(20):
            talk.ask(chunk(speech(16_000, 0.02), i))
        talk.ask(chunk(ramp(), 3), "error")
        metrics = final_metrics(talk.finish(chunk(speech(16_000, 0.02), 22)))
    assert (metrics.received, metrics.refused, metrics.delivered, metrics.missing) == (22, 1, 21, 2)
    assert metrics.total_samples == 21 * 320
    nodes = metrics.node_metrics
    assert nodes["in"].chunks == nodes["vad"].chunks == 21
    assert nodes["vad"].samples_processed == 21 * 320
    assert 0 < nodes["vad"].max_execution_time_ms <= nodes["vad"].execution_time_ms
    assert (
        0 < metrics.p50_latency_ms <= metrics.p95_latency_ms <= metrics.p99_latency_ms <= 1.01 * metrics.max_latency_ms
    )
    assert metrics.peak_memory_bytes >= 640
    assert json.loads(nodes["vad"].custom_metrics).keys() == {"vad_segments", "speech_ratio"}


# ---- overflow: the client reads nothing until all it has to send is gone


def offered_unread(foreign: Foreign, count: int, **options: object) -> tuple[list[int], streaming.StreamMetrics]:
    """Send all chunks before reading; return the numbers of the results, and the final metrics."""
    with foreign.session(ECHO, input_capacity=4, **options) as talk:
        talk.send(*(chunk(ramp(i, BIG), i) for i in range(count)))
        while talk.wait_quiet(0.2) < count + 1:
            pass
        talk.half_close()
        responses = talk.rest()
    answers = results(responses)
    for answer in answers[:-1]:
        np.testing.assert_array_equal(samples_of(answer.result.audio_outputs["in"])[:, 0], ramp(answer.sequence, BIG))
    assert answers[-1].flush
    assert not errors(responses)
    metrics = final_metrics(responses)
    assert metrics.received == metrics.accepted == count
    assert metrics.delivered == len(answers) - 1
    assert metrics.dropped == count - metrics.delivered > 0
    assert metrics.missing == 0
    numbers = sequences(answers[:-1])
    assert numbers == sorted(set(numbers))
    return numbers, metrics


def test_drop_oldest_keeps_the_latest(foreign: Foreign) -> None:
    numbers, _ = offered_unread(foreign, 100, overflow=streaming.OVERFLOW_DROP_OLDEST)
    assert numbers[-1] == 99
    assert numbers != list(range(len(numbers)))


def test_drop_newest_keeps_what_was_there(foreign: Foreign) -> None:
    numbers, _ = offered_unread(foreign, 100, overflow=streaming.OVERFLOW_DROP_NEWEST)
    assert numbers[:4] == [0, 1, 2, 3]
    assert numbers[-1] < 99


def test_block_drops_nothing(foreign: Foreign) -> None:
    with foreign.session(ECHO, input_capacity=1, overflow=streaming.OVERFLOW_BLOCK) as talk:
        responses = talk.finish(*(chunk(ramp(i, BIG), i) for i in range(60)))
    assert sequences(results(responses)) == [*range(60), 59]
    assert final_metrics(responses).dropped == 0


def test_chunks_that_have_become_too_old_are_dropped(foreign: Foreign) -> None:
    with foreign.session(ECHO, input_capacity=32, max_age_ms=1, lean=True) as talk:
        talk.send(*(chunk(ramp(i, BIG), i) for i in range(30)))
        talk.wait_quiet(0.3)
        responses = talk.finish()
    metrics = final_metrics(responses)
    assert metrics.dropped > 0
    assert metrics.delivered == len(results(responses)) - 1 == 30 - metrics.dropped
