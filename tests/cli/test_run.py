"""`headrace run`: it runs a file through a pipeline in this process."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import samplerate
import soundfile

from engine.cli.common.manifests import DATA
from tests.cli.programs import (
    RESAMPLE,
    Program,
    invoke,
    lines_of,
    of_type,
    run_program,
    write_manifest,
    write_tone,
)


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    return write_tone(tmp_path / "tone.wav")


@pytest.mark.parametrize("chunk_ms", ["20", "7.3", "2000"])
def test_resampled_output_is_what_the_library_gives_and_of_exact_length(tmp_path: Path, chunk_ms: str) -> None:
    tone = write_tone(tmp_path / "tone.wav", frames=44_100 + 17, rate=44_100)
    manifest = write_manifest(tmp_path / "m.json", {"r": RESAMPLE})
    done = invoke("run", tone, "-m", manifest, "--out-dir", tmp_path / "out", "--chunk-ms", chunk_ms)
    assert done.exit_code == 0, done.output
    made, rate = soundfile.read(tmp_path / "out" / "r.wav", dtype="float32")
    assert (rate, len(made)) == (16_000, (44_100 + 17) * 16_000 // 44_100)
    assert soundfile.info(tmp_path / "out" / "r.wav").subtype == "FLOAT"
    whole = samplerate.resample(soundfile.read(tone, dtype="float32")[0], 16_000 / 44_100, "sinc_fastest")
    common = min(len(whole), len(made))
    assert np.abs(made[:common] - whole[:common]).max() < 1e-6


def test_chunks_have_every_frame_once_in_the_format_asked_for(tmp_path: Path) -> None:
    stereo = write_tone(tmp_path / "s.flac", frames=11_025, rate=11_025, channels=2, subtype="PCM_16")
    manifest = write_manifest(tmp_path / "m.json", {"a/b": "PassThrough"})
    done = invoke("run", stereo, "-m", manifest, "--out-dir", tmp_path, "--format", "i16", "--json")
    assert done.exit_code == 0
    results = of_type(lines_of(done.stdout), "result")
    frames = [line["outputs"]["a/b"]["audio"]["frames"] for line in results if line["outputs"]]
    assert set(frames[:-1]) == {220, 221}  # 20 ms are 220.5 frames
    assert sum(frames) == 11_025
    copy = soundfile.SoundFile(tmp_path / "a%2Fb.wav")
    assert copy.subtype == "PCM_16"
    np.testing.assert_array_equal(copy.read(dtype="int16"), soundfile.read(stereo, dtype="int16")[0])


def test_text_is_shown_as_it_comes(tone: Path, tmp_path: Path) -> None:
    expression = "{text: timestamp_ms < `60` && 'a\x1bb' || ''}"
    telling = {"node_type": "JSONTransform", "params": {"expression": expression}}
    manifest = write_manifest(tmp_path / "m.json", {"vad": "VAD", "text": telling}, [("vad", "text")])
    machine = invoke("run", tone, "-m", manifest, "--chunk-ms", "30", "--json")
    assert of_type(lines_of(machine.stdout), "text") == [{"type": "text", "node": "text", "text": "a\x1bb"}] * 2
    person = invoke("run", tone, "-m", manifest, "--chunk-ms", "30")
    assert [line.split(" s   ")[-1] for line in person.stdout.splitlines() if "(text)" in line] == [
        "a\ufffdb   (text)"
    ] * 2


def test_json_lines_tell_the_whole_story(tone: Path, tmp_path: Path) -> None:
    done = invoke("run", tone, "--json", "--out-dir", tmp_path / "out")
    lines = lines_of(done.stdout)
    assert [lines[0]["type"], lines[-1]["type"]] == ["ready", "summary"]
    assert lines[0]["pipeline"]["nodes"] == {"resample": "AudioResample", "vad": "VAD", "level": "AudioLevel"}
    results = of_type(lines, "result")
    assert [line["sequence"] for line in results if not line["flush"]] == list(range(50))
    assert all(line["latency_ms"] > 0 for line in results if not line["flush"])
    summary = lines[-1]
    assert (summary["exit_code"], summary["results"], summary["balanced"]) == (0, 50, True)
    assert summary["metrics"]["delivered"] == summary["metrics"]["received"] == 50
    assert summary["latency_ms"]["chunks"] == 50
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] <= summary["latency_ms"]["max"]
    levels = [json.loads(line) for line in (tmp_path / "out" / "level.jsonl").read_text().splitlines()]
    assert {"path": str(tmp_path / "out" / "level.jsonl"), "node": "level", "lines": len(levels)}.items() <= {
        key: value for each in summary["files"] if each["node"] == "level" for key, value in each.items()
    }.items()
    assert abs(levels[20]["data"]["rms_dbfs"] - 20 * np.log10(0.5 / np.sqrt(2))) < 0.1


def test_a_pipe_gets_plain_lines_and_no_control_codes(tone: Path) -> None:
    done = run_program("run", tone)
    assert (done.code, done.complaints) == (0, [])
    assert "\x1b" not in done.out
    assert "\r" not in done.out
    assert "50 received = 50 accepted + 0 refused" in done.out
    assert all(line == line.rstrip() for line in done.out.splitlines())


def test_an_empty_file_is_a_stream_without_chunks(tmp_path: Path) -> None:
    done = invoke("run", write_tone(tmp_path / "none.wav", frames=0), "--json")
    assert done.exit_code == 0
    assert lines_of(done.stdout)[-1]["results"] == 0


def test_drops_are_counted_and_no_failure(tone: Path, tmp_path: Path) -> None:
    done = invoke("run", tone, "--overflow", "drop-oldest", "--capacity", "1", "--json")
    metrics = lines_of(done.stdout)[-1]["metrics"]
    assert done.exit_code == 0
    assert metrics["received"] == metrics["delivered"] + metrics["dropped"] == 50


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere.wav"], "cannot read nowhere.wav: No such file or directory"),
        (["."], "Is a directory"),
        ([__file__], "is not an audio file that can be read"),
        (["TONE", "-m", "nowhere.json"], "cannot read the manifest nowhere.json"),
        (["TONE", "--node", "x"], "'x' is not a source of this pipeline; its sources are 'resample'"),
        (["TONE", "--chunk-ms", "0"], "Invalid value for '--chunk-ms'"),
        ([], "Missing argument 'FILE'"),
    ],
)
def test_what_cannot_be_used_is_said_and_exits_2(tone: Path, args: list[str], says: str) -> None:
    done = invoke("run", *[tone if each == "TONE" else each for each in args])
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_all_faults_of_a_manifest_are_listed(tone: Path) -> None:
    manifest = {
        "version": "v9",
        "nodes": [{"id": "a", "node_type": "Nix"}, {"id": "g", "node_type": "Gain", "params": {"gain_db": "x"}}],
    }
    done = invoke("run", tone, "-m", "-", input=json.dumps(manifest))
    assert done.exit_code == 2
    for path in ("version: ", "nodes[0].node_type: ", "nodes[1].params.gain_db: "):
        assert path in done.stderr


def test_several_sources_need_a_choice(tone: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.json", {"a": "PassThrough", "b": "PassThrough"})
    done = invoke("run", tone, "-m", manifest)
    assert (done.exit_code, "choose one with --node: 'a', 'b'" in done.stderr) == (2, True)
    assert invoke("run", tone, "-m", manifest, "--node", "b").exit_code == 0


def test_refused_chunks_are_shown_a_few_times_counted_and_exit_1(tone: Path) -> None:
    done = invoke("run", tone, "--max-audio-samples", "959")
    assert done.exit_code == 1
    assert done.stderr.count("960 samples") == 5
    assert "50 received = 0 accepted + 50 refused" in done.stdout
    as_json = invoke("run", tone, "--max-audio-samples", "959", "--json")
    errors = of_type(lines_of(as_json.stdout), "error")
    assert [error["sequence"] for error in errors] == list(range(50))
    assert errors[0]["category"] == "resource limit"


def test_an_unwritable_output_is_a_failure_with_a_summary(tone: Path, tmp_path: Path) -> None:
    (tmp_path / "level.jsonl").mkdir()
    done = invoke("run", tone, "--out-dir", tmp_path, "--json")
    lines = lines_of(done.stdout)
    assert done.exit_code == 1
    assert "Is a directory" in of_type(lines, "summary")[0]["failure"]


def test_a_damaged_file_is_a_failure_with_an_account_of_what_was_sent(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes((DATA / "speech.flac").read_bytes()[:100_000])
    done = invoke("run", damaged, "--json")
    summary = lines_of(done.stdout)[-1]
    assert done.exit_code == 1
    assert "lost sync" in summary["failure"]
    assert 0 < summary["results"] < 487


def test_samples_that_are_not_finite_are_refused_and_never_made_into_integers(tmp_path: Path) -> None:
    samples = np.zeros(1_600, np.float32)
    samples[500] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    as_float = invoke("run", tmp_path / "nan.wav", "--json")
    assert (as_float.exit_code, lines_of(as_float.stdout)[-1]["metrics"]["refused"]) == (1, 1)
    as_integers = invoke("run", tmp_path / "nan.wav", "--format", "i16")
    assert (as_integers.exit_code, "not finite" in as_integers.stderr) == (1, True)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_that_goes_away_ends_it_in_silence(flags: list[str]) -> None:
    program = Program("run", str(DATA / "speech.flac"), "--realtime", *flags)
    program.line()
    assert program.process.stdout is not None
    program.process.stdout.close()
    done = program.finish()
    assert (done.code, done.complaints) == (1, [])


def test_realtime_takes_the_time_of_the_audio(tone: Path) -> None:
    began = time.monotonic()
    done = invoke("run", tone, "--realtime", "--json")
    assert time.monotonic() - began >= 1.0
    assert lines_of(done.stdout)[-1]["latency_ms"]["chunks"] == 50


def test_ctrl_c_cancels_the_session_and_leaves_a_summary_and_whole_files(tmp_path: Path) -> None:
    program = Program("run", str(DATA / "speech.flac"), "--realtime", "--json", "--out-dir", tmp_path)
    program.line('"sequence": 25')
    program.signal(signal.SIGINT)
    done = program.finish()
    summary = done.lines[-1]
    assert (done.code, summary["exit_code"], summary["interrupted"]) == (130, 130, True)
    assert summary["balanced"] is True
    assert summary["metrics"]["final"] is True
    assert 25 <= summary["results"] < 487
    written = (tmp_path / "level.jsonl").read_text()
    assert written.endswith("}\n")
    assert len(written.splitlines()) == summary["results"]
    assert done.complaints == []


def test_two_ctrl_c_end_a_command_that_is_for_a_person(tmp_path: Path) -> None:
    program = Program("run", str(DATA / "speech.flac"), "--realtime")
    program.line("speech from")
    program.signal(signal.SIGINT)
    program.signal(signal.SIGINT)
    done = program.finish()
    assert done.code == 130
    assert "stopped" in done.out
    assert "Traceback" not in done.err


def test_nodes_use_the_directories_that_are_allowed(tmp_path: Path, tone: Path) -> None:
    recordings, media = tmp_path / "recordings", tmp_path / "media"
    recordings.mkdir()
    media.mkdir()
    tone.rename(media / "tone.wav")
    nodes = {"play": {"node_type": "Player", "params": {"file": "tone.wav"}}, "rec": "Recorder"}
    manifest = write_manifest(tmp_path / "m.json", nodes, [("play", "rec")])
    clock = write_tone(tmp_path / "clock.wav")
    refused = invoke("run", clock, "-m", manifest)
    assert (refused.exit_code, "--recordings DIR" in refused.output, "--media DIR" in refused.output) == (2, True, True)
    done = invoke("run", clock, "-m", manifest, "--recordings", recordings, "--media", media)
    assert done.exit_code == 0, done.output
    (recorded,) = recordings.iterdir()
    assert soundfile.info(recorded).frames == soundfile.info(clock).frames
    full = ("--max-recordings-mb", "0", "--json")
    full_up = invoke("run", clock, "-m", manifest, "--recordings", recordings, "--media", media, *full)
    assert "the directory for recordings is full" in full_up.stdout
    assert len(list(recordings.iterdir())) == 1
