"""Speech recognition with pocketsphinx: its C library, and the English model in its wheel."""

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
"""Sample rate of the audio that the model is for, in Hz."""

USUAL_MEAN = b"40,3,-1"
"""Cepstral mean that the library uses by default."""

_FRAME_MS = 10

_SEARCH = b"_default"
"""Name that the library gives to the first search of a decoder."""

_QUICK_SEARCH = b"quick"
"""Name of a search for one short word, used when only the cepstral mean is needed."""

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
"""Functions of pocketsphinx.h in use: the type of the result, then the types of the arguments."""


@functools.cache
def load_pocketsphinx() -> ctypes.CDLL:
    """Load the C library inside the Python package's extension module.

    Called through its own Python interface, that module holds the GIL while it loads a model or decodes (at the end of
    an utterance for a second and more, measured), which stops every session of the server. Calls through ctypes release
    the GIL.

    Raises:
      ValueError: pocketsphinx is not installed, or its build does not export the C functions.
    """
    module = require("pocketsphinx._pocketsphinx", "asr")
    library = ctypes.CDLL(str(module.__file__))
    try:
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as missing:
        raise ValueError(f"this build of pocketsphinx does not export its C functions: {missing}") from missing
    return library


def _model() -> Path:
    return package_folder("pocketsphinx", "asr") / "model" / "en-us"


@functools.cache
def _dictionary() -> frozenset[bytes]:
    """Return the words that the model knows; some 15 MB, read once for the process, in a tenth of a second."""
    lines = (_model() / "cmudict-en-us.dict").read_bytes().splitlines()
    return frozenset(line.split(b" ", 1)[0] for line in lines)


def require_words(phrase: str) -> None:
    """Check that every word of a phrase is in the pronunciation dictionary.

    Raises:
      ValueError: a word is not in it.
    """
    for word in phrase.split():
        if word.encode() not in _dictionary():
            raise ValueError(f"the English dictionary does not contain the word {word!r}")


@attrs.frozen
class Word:
    """A recognized word, or a recognized keyphrase.

    Attributes:
      text: Spelling in the dictionary.
      start_ms: Start of the word, counted from the beginning of the utterance.
      end_ms: End of the word, counted in the same way.
    """

    text: str
    start_ms: int
    end_ms: int


@attrs.frozen
class Task:
    """Vocabulary of a recognizer: any English, or only keyphrases.

    Attributes:
      max_active: HMM states to follow in every frame; not used with keyphrases.
      keyphrases: Phrases, each with the likelihood ratio at which it counts as heard; empty for any English.
    """

    max_active: int = 5_000
    keyphrases: tuple[tuple[str, float], ...] = ()


class Recognizer:
    """One decoder: a model, and an utterance at a time. Loading takes some tenths of a second of CPU time.

    An utterance influences the next one only through the cepstral mean that the caller passes on.
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
            raise ValueError(f"pocketsphinx cannot create a decoder with the settings {settings}")
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
        """Return the cepstral mean of some audio, a good start for the recognition of similar audio."""
        self._library.ps_activate_search(self._decoder, _QUICK_SEARCH)
        self._library.ps_reinit_feat(self._decoder, None)
        self._library.ps_start_utt(self._decoder)
        self._process(samples, whole=True)
        self._library.ps_end_utt(self._decoder)
        self._library.ps_activate_search(self._decoder, _SEARCH)
        return USUAL_MEAN if b"nan" in self.mean else self.mean  # digital silence has no mean

    def begin(self, mean: bytes) -> None:
        """Begin an utterance as if nothing had been heard before, but with this mean."""
        self._library.ps_reinit_feat(self._decoder, None)
        self._library.ps_set_cmn(self._decoder, mean)
        self._library.ps_start_utt(self._decoder)

    def feed(self, samples: bytes) -> None:
        """Recognize 16-bit mono at `SAMPLE_RATE`. The words depend slightly on how the audio is cut."""
        self._process(samples, whole=False)

    def _process(self, samples: bytes, *, whole: bool) -> None:
        self._library.ps_process_raw(self._decoder, samples, len(samples) // 2, 0, whole)

    def end(self) -> None:
        """End the utterance, which may still change the words."""
        self._library.ps_end_utt(self._decoder)

    @property
    def mean(self) -> bytes:
        """Cepstral mean of the audio that was heard."""
        return bytes(self._library.ps_get_cmn(self._decoder, 0))

    def words(self) -> list[Word]:
        """Return the words of the utterance so far, without silence and noise."""
        found, library = [], self._library
        start, end = c_int(), c_int()
        segment = library.ps_seg_iter(self._decoder)
        while segment:
            library.ps_seg_frames(segment, byref(start), byref(end))
            text = library.ps_seg_word(segment).decode().split("(")[0].strip()  # "and(2)": pronunciation 2 of "and"
            if text[0] not in "<[+":
                found.append(Word(text, start.value * _FRAME_MS, (end.value + 1) * _FRAME_MS))
            segment = library.ps_seg_next(segment)
        return found


class Lender:
    """Lends recognizers, so that a model need not be loaded again for every utterance.

    Args:
      idle: Greatest number of unused recognizers to keep.
    """

    def __init__(self, idle: int) -> None:
        self._max_idle = idle
        self._idle: deque[Recognizer] = deque()
        self._lock = threading.Lock()
        self._has_loaded = False

    def prepare(self, task: Task) -> None:
        """Load the first recognizer before it is needed; `borrow` loads further ones.

        Raises:
          ValueError: the library cannot load it.
        """
        if not self._has_loaded:
            self.give_back(self.borrow(task))

    def borrow(self, task: Task) -> Recognizer:
        """Return a recognizer for the caller alone; load one if none for this task is idle."""
        with self._lock:
            for recognizer in self._idle:
                if recognizer.task == task:
                    self._idle.remove(recognizer)
                    return recognizer
        recognizer = Recognizer(task)
        self._has_loaded = True
        return recognizer

    def give_back(self, recognizer: Recognizer) -> None:
        """Take a recognizer back between utterances; the one that has been idle longest may be freed for it."""
        with self._lock:
            self._idle.append(recognizer)
            dropped = self._idle.popleft() if len(self._idle) > self._max_idle else None
        if dropped is not None:
            dropped.close()

    def discard(self, recognizer: Recognizer) -> None:
        """Free a recognizer in the middle of an utterance, in a thread, because its borrower cannot wait for that."""
        threading.Thread(target=recognizer.close, name="headrace-recognizer").start()


RECOGNIZERS = Lender(idle=2)
"""Recognizers of this process."""
