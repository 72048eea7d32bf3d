"""`headrace graph`: drawings of a manifest, with the figures of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.programs import invoke, write_manifest, write_tone


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.json", {"in": "PassThrough", "vad": "VAD"}, [("in", "vad")])


@pytest.mark.parametrize(
    ("language", "said"), [("mermaid", "n0 -->|audio| n1"), ("dot", "n0 -> n1"), ("svg", ">vad</text>")]
)
def test_a_manifest_is_drawn(manifest: Path, language: str, said: str) -> None:
    done = invoke("graph", manifest, "--format", language)
    assert (done.exit_code, said in done.stdout) == (0, True)


def test_a_run_s_report_adds_its_latencies(manifest: Path, tmp_path: Path) -> None:
    report = tmp_path / "run.jsonl"
    report.write_text(invoke("run", write_tone(tmp_path / "t.wav"), "-m", manifest, "--json").stdout)
    drawn = invoke("graph", manifest, "--report", report).stdout
    assert "50 chunks, p50 " in drawn
    assert drawn.count("<br/>run ") == drawn.count("<br/>queued ") == 2


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is not the report of a run"), ("{}\n", "has no summary"), (None, "cannot read")]
)
def test_a_report_that_is_none_is_told(manifest: Path, tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "r.json").write_text(text)
    done = invoke("graph", manifest, "--report", tmp_path / "r.json")
    assert (done.exit_code, said in done.stderr) == (2, True)


def test_a_manifest_with_faults_is_not_drawn(tmp_path: Path) -> None:
    done = invoke("graph", write_manifest(tmp_path / "m.json", {"a": "Vad"}))
    assert (done.exit_code, "'Vad' is unknown" in done.stderr) == (2, True)
