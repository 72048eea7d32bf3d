"""Speech through the server: a client gets the libraries' own results, whatever the sizes of its chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from importlib.util import find_spec

import numpy as np
import pytest
import samplerate
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.manifest import manifest_from_json
from protos import common_pb2 as pb
from tests.e2e.clients import ROOT, Foreign, sequences
from tests.e2e.raw_messages import (
    FLUSH,
    Request,
    Samples,
    chunk,
    final_metrics,
    joined_audio,
    joined_data,
    pipeline,
    results,
)
from tests.e2e.sounds import as_float, direct_decisions, speech
from transport.codec.requests import encode_manifest

RATES = (8_000, 16_000, 32_000, 48_000)
SINC = ("sinc_fastest", "sinc_medium", "sinc_best")
SAID = "go forward ten meters turn to the left and wait for me at the door"
SPEECH = {rate: speech(rate, 1.7) for rate in RATES}


def cut(samples: Samples, sizes: Sequence[int], rate: int, first: int = 0) -> Iterator[Request]:
    """Cut samples into chunks of these sizes, in rotation, numbered from `first`."""
    at, number = 0, 0
    while at < len(samples):
        size = sizes[number % len(sizes)]
        yield chunk(samples[at : at + size], first + number, rate=rate)
        at, number = at + size, number + 1


def listening(target: int, converter: str = "sinc_fastest", **vad: int) -> pb.PipelineManifest:
    return pipeline(
        {
            "in": "PassThrough",
            "resample": ("AudioResample", {"target_sample_rate": target, "converter": converter}),
            "vad": ("VAD", vad),
        },
        "in>resample",
        "in>vad",
    )


def same_on_common_prefix(ours: Samples, sent: Samples, source: int, target: int, converter: str) -> None:
    """Check for the exact length, and for the samples of libsamplerate called once on the whole input."""
    assert ours.shape == (len(sent) * target // source, 1)
    theirs = samplerate.resample(sent, target / source, converter)
    common = min(len(theirs), len(ours))
    assert common >= len(ours) - 1
    np.testing.assert_allclose(ours[:common, 0], theirs[:common], rtol=0, atol=1e-6)


sizes = st.lists(st.integers(1, 2_500), min_size=1, max_size=8).filter(lambda drawn: sum(drawn) > 40 * len(drawn))


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=6)
@given(
    sizes=sizes, converter=st.sampled_from(SINC), aggressiveness=st.integers(0, 3), frame=st.sampled_from([10, 20, 30])
)
def test_decisions_and_samples_do_not_depend_on_chunks(
    rate: int, foreign: Foreign, sizes: list[int], converter: str, aggressiveness: int, frame: int
) -> None:
    sent, target = SPEECH[rate], 16_000 if rate != 16_000 else 44_100
    manifest = listening(target, converter, aggressiveness=aggressiveness, frame_duration_ms=frame)
    requests = list(cut(as_float(sent), sizes, rate))
    with foreign.session(manifest) as talk:
        responses = talk.finish(*requests)

    answered = results(responses)
    assert sequences(answered) == [*range(len(requests)), len(requests) - 1]
    assert [result.flush for result in answered] == [False] * len(requests) + [True]
    said = "".join(each["decisions"] for each in joined_data(responses, "vad"))
    assert said == direct_decisions(sent, rate, aggressiveness, frame)
    assert {"0", "1"} == set(said)
    same_on_common_prefix(joined_audio(responses, "resample"), as_float(sent), rate, target, converter)
    assert final_metrics(responses).delivered == len(requests)


@pytest.mark.parametrize("form", ["int16", "int32"])
def test_decisions_on_integer_formats(foreign: Foreign, form: str) -> None:
    sent = SPEECH[16_000]
    samples = sent if form == "int16" else sent.astype(np.int32) << 16
    with foreign.session(pipeline({"vad": "VAD"})) as talk:
        responses = talk.finish(*cut(samples, [320], 16_000))
    assert "".join(each["decisions"] for each in joined_data(responses, "vad")) == direct_decisions(sent, 16_000)


def test_after_a_flush_the_nodes_are_fresh_and_the_format_may_change(foreign: Foreign) -> None:
    first, second = as_float(SPEECH[48_000]), as_float(SPEECH[8_000])
    with foreign.session(listening(16_000)) as talk:
        talk.send(*cut(first, [960], 48_000))
        talk.send(FLUSH)
        responses = talk.finish(*cut(second, [160], 8_000, first=100))
    ends = [i for i, each in enumerate(responses) if each.flush]
    assert len(ends) == 2
    one, two = responses[: ends[0] + 1], responses[ends[0] + 1 :]
    same_on_common_prefix(joined_audio(one, "resample"), first, 48_000, 16_000, "sinc_fastest")
    same_on_common_prefix(joined_audio(two, "resample"), second, 8_000, 16_000, "sinc_fastest")
    assert "".join(each["decisions"] for each in joined_data(two, "vad")) == direct_decisions(SPEECH[8_000], 8_000)


def test_three_seconds_at_real_pace(foreign: Foreign) -> None:
    sent, rate = speech(48_000, 3.0), 48_000
    requests = list(cut(as_float(sent), [960], rate))
    with foreign.session(listening(16_000)) as talk:
        talk.send(*requests, interval=0.020)
        for _ in requests:
            talk.expect("result")
        times = [time for time, each in zip(talk.times, talk.responses, strict=True) if each.HasField("result")]
        responses = talk.finish()
    assert sequences(results(responses)) == [*range(150), 149]
    assert "".join(each["decisions"] for each in joined_data(responses, "vad")) == direct_decisions(sent, rate)
    same_on_common_prefix(joined_audio(responses, "resample"), as_float(sent), rate, 16_000, "sinc_fastest")
    metrics = final_metrics(responses)
    assert 0 < metrics.average_latency_ms <= metrics.max_latency_ms
    percentiles = [f"p{at} {getattr(metrics, f'p{at}_latency_ms'):.2f} ms" for at in (50, 95, 99)]
    print(
        ", ".join(percentiles), f"max {metrics.max_latency_ms:.2f} ms over {times[-1] - times[0]:.2f} s"
    )  # pytest -rP


@pytest.mark.skipif(
    not all(map(find_spec, ("pocketsphinx", "pyrnnoise"))), reason="needs the extras `asr` and `denoise`"
)
def test_words_come_through_the_server(foreign: Foreign) -> None:
    """A sentence passes through the catalogue's example: denoise, VAD, segmenter, text."""
    spoken, rate = soundfile.read(ROOT / "tests/nodes/go_forward.flac", dtype="int16")
    manifest = manifest_from_json((ROOT / "nodes/examples/SpeechToText.json").read_text())
    with foreign.session(encode_manifest(manifest), max_timeout_ms=30_000) as talk:
        responses = talk.finish(*cut(spoken, [320], rate))
    heard = " ".join(item["text"] for item in joined_data(responses, "text"))
    alike = SequenceMatcher(None, heard.split(), SAID.split()).get_matching_blocks()
    assert sum(block.size for block in alike) >= 8
