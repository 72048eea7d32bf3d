"""`headrace demo`: a server, a client and speech, in one command, from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.cli.programs import Finished, of_type, run_on_terminal, run_program

SPOKEN_S = ((0.60, 3.61), (4.61, 7.17), (8.17, 9.13))
"""Times of speech in the sample; see engine/cli/data/speech.txt."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    out = tmp_path_factory.mktemp("demo")
    return run_program("demo", "--fast", "--json", "--out-dir", out), out


def test_every_chunk_is_answered_in_order_and_accounted_for(demo: tuple[Finished, Path]) -> None:
    done, _ = demo
    assert (done.code, done.complaints) == (0, [])
    sequences = [line["sequence"] for line in of_type(done.lines, "result") if not line["flush"]]
    assert sequences == list(range(487))
    summary = done.lines[-1]
    assert (summary["type"], summary["balanced"], summary["results"]) == ("summary", True, 487)
    assert summary["metrics"]["accepted"] == summary["metrics"]["delivered"] == 487
    assert list(summary["metrics"]["figures"]) != []


def test_speech_is_found_where_it_is(demo: tuple[Finished, Path]) -> None:
    segments = [line for line in of_type(demo[0].lines, "segment") if line["end_ms"] is not None]
    assert len(segments) == len(SPOKEN_S)
    for found, (start_s, end_s) in zip(segments, SPOKEN_S, strict=True):
        assert abs(found["start_ms"] / 1000 - start_s) < 0.35  # padding and the detector's hangover
        assert abs(found["end_ms"] / 1000 - end_s) < 0.35


def test_each_segment_is_told_when_it_opens_and_when_it_closes(demo: tuple[Finished, Path]) -> None:
    segments = of_type(demo[0].lines, "segment")
    assert [line["end_ms"] is None for line in segments] == [True, False] * 3
    assert [line["start_ms"] for line in segments[::2]] == [line["start_ms"] for line in segments[1::2]]


def test_the_gate_passes_the_speech_and_little_more(demo: tuple[Finished, Path]) -> None:
    done, out = demo
    gated = soundfile.info(out / "gate.wav")
    speech_ms = done.lines[-1]["speech"]["vad"]["speech_ms"]
    assert gated.samplerate == 16_000
    assert abs(gated.duration * 1000 - speech_ms) < 700
    assert gated.duration < 9.7


def test_a_person_sees_speech_latency_nodes_and_the_ledger() -> None:
    done = run_program("demo", "--fast")
    assert done.code == 0
    for part in ("speech from", "p50", "p99", "AudioResample", "487 received = 487 accepted", "487 delivered"):
        assert part in done.out
    assert "\x1b" not in done.out


def test_on_a_terminal_a_bar_runs_and_the_last_word_is_the_same() -> None:
    done = run_on_terminal("demo", "--fast")
    assert done.code == 0
    assert "\x1b[" in done.out
    assert " of 9.7 s" in done.out
    assert "━" in done.out
    last = done.out.rpartition("streamed")[2]
    assert "487 delivered" in last
    assert "━" not in last
