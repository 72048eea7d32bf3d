"""Speech recognition by pocketsphinx: its C library, with the English model that its wheel brings."""

from __future__ import annotations

import ctypes
import functools
import json
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import attrs

from nodes.libraries.extras import package_folder, require

__all__ = [
    "RECOGNIZERS",
    "SAMPLE_RATE",
    "USUAL_MEAN",
    "Lender",
    "Recognizer",
    "Task",
    "Word",
    "load_pocketsphinx",
    "require_words",
]

SAMPLE_RATE = 16_000
"""Of the audio that the model is for, in Hz."""

USUAL_MEAN = b"40,3,-1"
"""The cepstral mean that the library takes when it knows nothing better."""

_FRAME_MS = 10

_SEARCH = b"_default"
"""What the library calls the search that a decoder begins with."""

_QUICK_SEARCH = b"quick"
"""A search for one short word, for when nothing but the cepstral mean is asked for."""

_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "ps_config_init": (c_void_p, c_void_p),
    "ps_config_parse_json": (c_void_p, c_void_p, c_char_p),
    "ps_config_free": (c_int, c_void_p),
    "ps_init": (c_void_p, c_void_p),
    "ps_free": (c_int, c_void_p),
    "ps_add_keyphrase": (c_int, c_void_p, c_char_p, c_char_p),
    "ps_activate_search": (c_int, c_void_p, c_char_p),
    "ps_reinit_feat": (c_int, c_void_p, c_void_p),
    "ps_get_cmn": (c_char_p, c_void_p, c_int),
    "ps_set_cmn": (c_int, c_void_p, c_char_p),
    "ps_start_utt": (c_int, c_void_p),
    "ps_process_raw": (c_int, c_void_p, c_char_p, c_size_t, c_int, c_int),
    "ps_end_utt": (c_int, c_void_p),
    "ps_seg_iter": (c_void_p, c_void_p),
    "ps_seg_next": (c_void_p, c_void_p),
    "ps_seg_word": (c_char_p, c_void_p),
    "ps_seg_frames": (None, c_void_p, POINTER(c_int), POINTER(c_int)),
}
"""What is used of pocketsphinx.h: the type of the result, then those of the arguments."""


@functools.cache
def load_pocketsphinx() -> ctypes.CDLL:
    """The C library inside the Python package's extension module.

    That module holds the interpreter's lock while it loads a model or decodes (at the end of an utterance for a
    second and more, measured), which stops every session of the server. Calls through ctypes release it.

    Raises:
      ValueError: it is not installed, or is built in another way.
    """
    module = require("pocketsphinx._pocketsphinx", "asr")
    library = ctypes.CDLL(str(module.__file__))
    try:
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as missing:
        raise ValueError(f"this build of pocketsphinx keeps its C functions to itself: {missing}") from missing
    return library


def _model() -> Path:
    return package_folder("pocketsphinx", "asr") / "model" / "en-us"


@functools.cache
def _dictionary() -> frozenset[bytes]:
    """The words that the model can tell; some 15 MB, read once for the process, in a tenth of a second."""
    lines = (_model() / "cmudict-en-us.dict").read_bytes().splitlines()
    return frozenset(line.split(b" ", 1)[0] for line in lines)


def require_words(phrase: str) -> None:
    """Check that every word of a phrase is in the pronunciation dictionary.

    Raises:
      ValueError: one is not.
    """
    for word in phrase.split():
        if word.encode() not in _dictionary():
            raise ValueError(f"the English dictionary has no word {word!r}")


@attrs.frozen
class Word:
    """A word, or for keywords a phrase, that was recognized.

    Attributes:
      text: As the dictionary spells it.
      start_ms: Where it begins, counted from the beginning of the utterance.
      end_ms: Where it ends.
    """

    text: str
    start_ms: int
    end_ms: int


@attrs.frozen
class Task:
    """What to listen for: anything in English, or keyphrases alone.

    Attributes:
      max_active: HMM states to follow in every frame, for anything.
      keyphrases: Each with the likelihood ratio at which it counts as heard; none of them for anything.
    """

    max_active: int = 5_000
    keyphrases: tuple[tuple[str, float], ...] = ()


class Recognizer:
    """One decoder: a model, and an utterance at a time. Loading takes some tenths of a second of CPU time.

    Nothing of one utterance influences the next but the cepstral mean that is handed on.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._decoder: int | None = None
        self._library = load_pocketsphinx()
        model = _model()
        settings = {"hmm": str(model / "en-us"), "dict": str(model / "cmudict-en-us.dict"), "loglevel": "FATAL"}
        if not task.keyphrases:
            self._decoder = self._load({**settings, "lm": str(model / "en-us.lm.bin"), "maxhmmpf": task.max_active})
            return
        with tempfile.NamedTemporaryFile("w") as list_file:
            list_file.writelines(f"{phrase} /{threshold:g}/\n" for phrase, threshold in task.keyphrases)
            list_file.flush()
            self._decoder = self._load({**settings, "kws": list_file.name})

    def _load(self, settings: Mapping[str, Any]) -> int:
        library = self._library
        config = library.ps_config_init(None)
        try:
            library.ps_config_parse_json(config, json.dumps(settings).encode())
            decoder = library.ps_init(config)
        finally:
            library.ps_config_free(config)
        if not decoder:
            raise ValueError(f"pocketsphinx cannot work with {settings}")
        library.ps_add_keyphrase(decoder, _QUICK_SEARCH, b"a")
        return int(decoder)

    def close(self) -> None:
        """Free the model, which takes up to a tenth of a second."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            self._library.ps_free(decoder)

    def __del__(self) -> None:
        self.close()

    def mean_of(self, samples: bytes) -> bytes:
        """The cepstral mean of some audio, with which recognition of more of its kind does well to begin."""
        self._library.ps_activate_search(self._decoder, _QUICK_SEARCH)
        self._library.ps_reinit_feat(self._decoder, None)
        self._library.ps_start_utt(self._decoder)
        self._process(samples, whole=True)
        self._library.ps_end_utt(self._decoder)
        self._library.ps_activate_search(self._decoder, _SEARCH)
        return USUAL_MEAN if b"nan" in self.mean else self.mean  # digital silence has none

    def begin(self, mean: bytes) -> None:
        """Begin an utterance as if nothing had been heard before, but with this mean."""
        self._library.ps_reinit_feat(self._decoder, None)
        self._library.ps_set_cmn(self._decoder, mean)
        self._library.ps_start_utt(self._decoder)

    def feed(self, samples: bytes) -> None:
        """Hear 16-bit mono at `SAMPLE_RATE`. What is understood depends, a little, on how it is cut."""
        self._process(samples, whole=False)

    def _process(self, samples: bytes, *, whole: bool) -> None:
        self._library.ps_process_raw(self._decoder, samples, len(samples) // 2, 0, whole)

    def end(self) -> None:
        """End the utterance: the words may still change by that."""
        self._library.ps_end_utt(self._decoder)

    @property
    def mean(self) -> bytes:
        """The cepstral mean of what was heard."""
        return bytes(self._library.ps_get_cmn(self._decoder, 0))

    def words(self) -> list[Word]:
        """What was understood of the utterance so far; silence and noise are left out."""
        found, library = [], self._library
        start, end = c_int(), c_int()
        segment = library.ps_seg_iter(self._decoder)
        while segment:
            library.ps_seg_frames(segment, byref(start), byref(end))
            text = library.ps_seg_word(segment).decode().split("(")[0].strip()  # "and(2)": how "and" is pronounced
            if text[0] not in "<[+":
                found.append(Word(text, start.value * _FRAME_MS, (end.value + 1) * _FRAME_MS))
            segment = library.ps_seg_next(segment)
        return found


class Lender:
    """Lends recognizers, so that a model need not be loaded again for every utterance.

    Args:
      idle: How many to keep that nobody uses.
    """

    def __init__(self, idle: int) -> None:
        self._max_idle = idle
        self._idle: deque[Recognizer] = deque()
        self._lock = threading.Lock()
        self._has_loaded = False

    def prepare(self, task: Task) -> None:
        """Load the first recognizer of all before it is needed; those that others need meanwhile they load themselves.

        Raises:
          ValueError: the library cannot load it.
        """
        if not self._has_loaded:
            self.give_back(self.borrow(task))

    def borrow(self, task: Task) -> Recognizer:
        """A recognizer for the borrower alone; loads one if none for this task is idle."""
        with self._lock:
            for recognizer in self._idle:
                if recognizer.task == task:
                    self._idle.remove(recognizer)
                    return recognizer
        recognizer = Recognizer(task)
        self._has_loaded = True
        return recognizer

    def give_back(self, recognizer: Recognizer) -> None:
        """Take a recognizer back between utterances; the one that has been idle longest may go for it."""
        with self._lock:
            self._idle.append(recognizer)
            dropped = self._idle.popleft() if len(self._idle) > self._max_idle else None
        if dropped is not None:
            dropped.close()

    def discard(self, recognizer: Recognizer) -> None:
        """Free a recognizer in the middle of an utterance, for a borrower that cannot wait for that."""
        threading.Thread(target=recognizer.close, name="headrace-recognizer").start()


RECOGNIZERS = Lender(idle=2)
"""Of this process."""
