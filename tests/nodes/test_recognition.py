"""Ends of utterances at rounded positions, and the lending of recognizers."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from nodes.bases import recognition
from nodes.contract import Audio, Data
from nodes.dsp.segments import milliseconds
from nodes.libraries import pocketsphinx
from nodes.libraries.pocketsphinx import Lender, Task
from nodes.speech_to_text import SpeechToText
from tests.kits import cut, signal

pytest.importorskip("pocketsphinx")


class Idle:
    """A recognizer that recognizes no words."""

    def __init__(self, task: Task) -> None:
        self.task, self.mean = task, b""
        self.closed = threading.Event()
        self.heard: list[bytes] = []

    def mean_of(self, samples: bytes) -> bytes:
        return b"40"

    def begin(self, mean: bytes) -> None: ...
    def feed(self, samples: bytes) -> None:
        self.heard.append(samples)

    def end(self) -> None: ...
    def words(self) -> list[pocketsphinx.Word]:
        return []

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def lender(monkeypatch: pytest.MonkeyPatch) -> Lender:
    lender = Lender(idle=2)
    monkeypatch.setattr(pocketsphinx, "Recognizer", Idle)
    monkeypatch.setattr(recognition, "RECOGNIZERS", lender)
    return lender


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("off", [-1, 0])
def test_the_text_of_an_utterance_comes_with_its_audio(lender: Lender, rate: int, off: int) -> None:
    node = SpeechToText()
    for index in range(8):
        block = Audio(signal(rate // 10 + index + off), rate, index * rate)
        end_ms = milliseconds((block.stop - off) * 1000 / rate)
        assert not list(node.process(Data({"segments": [[index * 1000.0, end_ms]]})))
        (text,) = node.process(block)
        assert (text.at, text.until) == (index, block.stop / rate)


def test_a_short_block_has_never_much_to_do_and_all_is_heard_in_order(lender: Lender) -> None:
    recognizer = lender.borrow(Task())
    assert isinstance(recognizer, Idle)
    lender.give_back(recognizer)
    node, samples = SpeechToText(), signal(50_000, sample_format="i16")
    heard = [0]
    for block in cut(samples, [320] * 200, 16_000):
        assert not list(node.process(block))
        heard.append(len(recognizer.heard))
    assert max(now - before for before, now in pairwise(heard)) == 2
    assert heard[-1] == 31  # all whole slices: the recognizer has caught up
    list(node.finish())
    assert b"".join(recognizer.heard) == samples.tobytes()


def test_the_first_recognizer_is_loaded_before_it_is_needed_and_no_other(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Idle] = []
    monkeypatch.setattr(pocketsphinx, "Recognizer", lambda task: loaded.append(Idle(task)) or loaded[-1])
    SpeechToText(max_active=200)
    SpeechToText(max_active=300)
    assert [each.task for each in loaded] == [Task(200)]
    assert lender.borrow(Task(200)) is loaded[0]


def test_a_recognizer_is_lent_to_one_utterance_at_a_time(lender: Lender) -> None:
    first, second = lender.borrow(Task()), lender.borrow(Task())
    assert first is not second
    lender.give_back(first)
    other = lender.borrow(Task(max_active=100))
    assert other not in (first, second)
    assert lender.borrow(Task()) is first
    for each in (other, first, second):
        lender.give_back(each)
    assert isinstance(other, Idle)
    assert other.closed.is_set()
    assert {id(lender.borrow(Task())) for _ in range(2)} == {id(first), id(second)}


def test_closing_in_an_utterance_frees_its_recognizer_in_another_thread(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrowed: list[Idle] = []
    freed_by: list[threading.Thread] = []
    monkeypatch.setattr(pocketsphinx, "Recognizer", lambda task: borrowed.append(Idle(task)) or borrowed[-1])
    monkeypatch.setattr(Idle, "close", lambda self: (freed_by.append(threading.current_thread()), self.closed.set()))
    node = SpeechToText()
    assert not list(node.process(Audio(signal(32_000), 16_000)))
    node.close()
    assert borrowed[0].closed.wait(60)
    assert freed_by != [threading.current_thread()]
    assert lender.borrow(Task()) is not borrowed[0]
