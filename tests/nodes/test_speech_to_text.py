"""SpeechToText and KeywordSpotter, on synthetic speech and against pocketsphinx's own Python interface.

go_forward.flac was made with flite 2.2:
`-voice rms -t "Go forward ten meters, turn to the left, and wait for me at the door."`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile

from nodes.contract import Audio, Data, InvalidInput
from nodes.keyword_spotter import KeywordSpotter
from nodes.libraries.pocketsphinx import USUAL_MEAN, Recognizer, Task
from nodes.speech_to_text import SpeechToText
from tests.kits import blocks_of, check_node, cut, run

pocketsphinx = pytest.importorskip("pocketsphinx")

RATE = 16_000
SPEECH, _ = soundfile.read(Path(__file__).parent / "go_forward.flac", 2 * RATE, dtype="int16", always_2d=True)
PHRASES = {"forward": 1e-50, "stop recording": 1e-50}


def texts(outcome: Any) -> list[str]:
    return [item.value["text"] for item in outcome.data if not item.value["partial"]]


def test_conforms() -> None:
    check_node(
        lambda **params: SpeechToText(**{"max_active": 100, "partial_every_ms": 100, **params}),
        formats=("f32",),
        channels=(2,),
        length=None,
        settles_s=1.5,
        findings=lambda value: value and [value["text"], value["words"]],
        refuse=lambda block: Data({"rms_dbfs": -3.0}),
        faults=[{"max_utterance_ms": 0}, {"max_active": 0}],
    )


def test_the_spotter_conforms() -> None:
    check_node(
        lambda **params: KeywordSpotter(**{"phrases": PHRASES, **params}),
        formats=("f32",),
        channels=(1,),
        length=None,
        settles_s=2.0,
        findings=lambda value: value and value["keywords"],
        refuse=lambda block: Audio(block.frames, 8_000, block.start),
        faults=[{"phrases": phrases} for phrases in ({}, {"qwrtz": 0.1}, {"go\nforward": 0.1}, {"go": 0.0})],
    )


def test_words_are_those_of_the_library() -> None:
    samples = SPEECH.tobytes()
    theirs = pocketsphinx.Decoder(maxhmmpf=1_000, loglevel="FATAL", **model())
    theirs.set_cmn(USUAL_MEAN.decode())
    theirs.start_utt()
    theirs.process_raw(samples, False, False)
    theirs.end_utt()
    ours = Recognizer(Task(max_active=1_000))
    ours.mean_of(samples)  # must not affect the utterance
    ours.begin(USUAL_MEAN)
    ours.feed(samples)
    ours.end()
    assert " ".join(word.text for word in ours.words()) == theirs.hyp().hypstr


def model() -> dict[str, str]:
    root = Path(pocketsphinx.get_model_path()) / "en-us"
    return {"hmm": str(root / "en-us"), "dict": str(root / "cmudict-en-us.dict"), "lm": str(root / "en-us.lm.bin")}


def test_partial_text_comes_before_the_end_and_words_lie_in_the_utterance() -> None:
    data = run(SpeechToText(max_active=1_000), cut(SPEECH, [320] * 500, RATE, start=RATE)).data
    *before, last = data
    assert before
    assert all(item.value["partial"] and not item.value["text"] for item in before)
    assert last.value["text"].startswith("go forward")
    starts = [word["start_ms"] for word in last.value["words"]]
    assert starts == sorted(starts)
    assert 1_000 <= starts[0] < last.value["words"][-1]["end_ms"] <= last.until * 1_000 + 10


def test_utterances_end_at_gaps_and_where_segments_end() -> None:
    node = SpeechToText(max_active=100, partial_every_ms=0)
    half = len(SPEECH) // 2
    stretches = [(0, SPEECH[:half]), (half + RATE, SPEECH[half:])]
    assert len(texts(run(node, blocks_of(stretches, [1_000] * 50, RATE)))) == 2
    assert not list(node.process(Audio(SPEECH[:half], RATE)))
    (text,) = node.process(Data({"segments": [[100.0, 900.0]]}))
    assert (text.at, text.until) == (0.0, half / RATE)
    with pytest.raises(InvalidInput, match="no speech segments"):
        node.process(Data({"rms_dbfs": -3.0}))


def test_a_long_utterance_is_cut() -> None:
    node = SpeechToText(max_active=100, max_utterance_ms=1_000, partial_every_ms=0)
    data = run(node, [Audio(SPEECH, RATE)]).data
    assert [item.at for item in data] == [float(second) for second in range(len(data))]


COMMANDS = {  # phrase in commands.flac → (start, end) in ms
    "call my mother": (400, 1_493),
    "cancel the meeting": (1_893, 3_044),
    "go forward": (3_444, 4_252),
    "increase the volume": (4_652, 5_969),
    "open the window": (6_369, 7_553),
    "play some music": (7_953, 9_062),
    "ten meters": (9_462, 10_283),
    "what is the weather": (10_683, 11_860),
}
NEVER_SAID = ("stop recording", "good morning", "next station", "turn the lights off", "call a doctor")


def test_phrases_are_found_where_they_are_said_and_no_others() -> None:
    frames, _ = soundfile.read(Path(__file__).parent / "commands.flac", dtype="int16", always_2d=True)
    node = KeywordSpotter(phrases=dict.fromkeys((*COMMANDS, *NEVER_SAID), 1e-30))
    data = run(node, cut(frames, [320] * 999, RATE, start=RATE)).data
    hits = [hit for item in data for hit in item.value["keywords"]]
    assert len(hits) >= 6, "all except two must be found; pocketsphinx 5.1 finds all except one"
    for hit, item in zip(hits, data, strict=True):
        assert hit["start_ms"] - 1_000 == pytest.approx(COMMANDS[hit["phrase"]][0], abs=250)
        assert hit["end_ms"] - 1_000 == pytest.approx(COMMANDS[hit["phrase"]][1], abs=400)
        assert (item.at, item.until) == (hit["start_ms"] / 1_000, hit["end_ms"] / 1_000)
