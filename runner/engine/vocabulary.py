"""Text to tokens and back."""

from __future__ import annotations

import codecs
import ctypes
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from nemotron_gguf.runner.chat.literal import Specials
from nemotron_gguf.runner.errors import RunnerError

LONG, PART = 1 << 15, 1 << 13  # characters: texts beyond it are read in parts of at least so many
REMEMBERED = 1 << 22  # characters of such parts: the next prompt of a long conversation begins with the same
BPE = 2  # enum llama_vocab_type (include/llama.h)
UNKNOWN, CONTROL, USER_DEFINED = 1 << 0, 1 << 3, 1 << 4  # enum llama_token_attr
STRIPS = 1 << 7 | 1 << 8  # the same: strips white space to the left, the right


class Vocabulary:
    """A loaded model's tokenizer: texts are read with their special tokens, as a rendered prompt needs it."""

    def __init__(self, llama: Any, model: Any) -> None:
        self.llama = llama
        self.handle = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self.handle))
        self._ends: dict[int, bool] = {}  # what a call of the library would cost is seen at every token
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._read: OrderedDict[tuple[str, bool], array[int]] = OrderedDict()  # what was asked for last stands last
        self._read_chars = 0

    def tokenize(self, text: str, cuts: Sequence[int] = ()) -> list[int]:
        """A rendered prompt as token ids, beginning with BOS where the model wants it and the template wrote none.

        No token spans one of `cuts` (characters, in order).
        """
        return self.begun([token for ids in self.parts(text, cuts) for token in ids])

    def parts(self, text: str, cuts: Sequence[int] = ()) -> Iterator[list[int]]:
        """The ids of a rendered prompt, a part of a long text after the other, still without BOS."""
        for begin, end in pairwise((0, *cuts, len(text))):
            for part in self._parts(text[begin:end]):
                yield self._ids(part, further=begin > 0)

    def _ids(self, part: str, *, further: bool) -> list[int]:
        """The ids of a part, those of a long one from memory where it was read before."""
        key = part, further
        known = self._read.get(key)
        if known is not None:
            self._read.move_to_end(key)
            return known.tolist()
        ids = self._further(part) if further else self.encode(part)
        if PART <= len(part) <= REMEMBERED:
            self._read[key] = array("i", ids)
            self._read_chars += len(part)
            while self._read_chars > REMEMBERED:
                (oldest, _), _ = self._read.popitem(last=False)
                self._read_chars -= len(oldest)
        return ids

    def begun(self, ids: list[int]) -> list[int]:
        """A prompt's ids with BOS before them, where the model wants it and it is not there."""
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    def _parts(self, text: str) -> Iterator[str]:
        """A long text cut behind control tokens, where libllama cuts it too: its search for them is quadratic."""
        begin = 0
        if len(text) > LONG and self._is_bpe and self._controls.pattern:
            for match in self._controls.finditer(text):
                if match.end() - begin >= PART:
                    yield text[begin : match.end()]
                    begin = match.end()
        if begin < len(text):
            yield text[begin:]

    def _further(self, text: str) -> list[int]:
        """Token ids of a text in the middle of another: without the space that some tokenizers put before a text."""
        if self._is_bpe:
            return self.encode(text)
        before, ids = self.encode("\n"), self.encode("\n" + text)  # whose token is one of its own
        return ids[len(before) :] if ids[: len(before)] == before else self.encode(text)

    @cached_property
    def _is_bpe(self) -> bool:
        return bool(self.llama.llama_vocab_type(self.handle) == BPE)

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        """The control tokens that leave the text beside them alone; empty where there are none."""
        found = [text for text, attributes in self._special if attributes & CONTROL and not attributes & STRIPS]
        return re.compile("|".join(re.escape(text) for text in sorted(found, key=len, reverse=True) if text))

    @cached_property
    def specials(self) -> Specials:
        """The texts that libllama reads as tokens wherever they stand."""
        control = tuple(text for text, attributes in self._special if attributes & (CONTROL | UNKNOWN))
        return Specials(
            control, tuple(text for text, attributes in self._special if not attributes & (CONTROL | UNKNOWN))
        )

    @cached_property
    def _special(self) -> list[tuple[str, int]]:
        """Text and attributes of control, unknown and user-defined tokens."""
        llama, found = self.llama, []
        for token in range(self.size):
            attributes = llama.llama_vocab_get_attr(self.handle, token)
            if attributes & (CONTROL | UNKNOWN | USER_DEFINED):
                text = llama.llama_vocab_get_text(self.handle, token).decode("utf-8", "replace")
                found.append((text, attributes))
        return found

    def read(self, text: str, special: bool = False) -> list[int]:
        """A text to measure on as token ids, as llama.cpp's tools read a file: whole, BOS before it where it is wanted.

        `special`: whether special tokens that are spelled out in it are recognised.
        """
        parts = self._parts(text) if special else (text,)  # without them nothing is searched for that is quadratic
        ids = [token for part in parts for token in self.encode(part, special)]
        return ids if self.bos is None else [self.bos, *ids]

    @cached_property
    def bos(self) -> int | None:
        """The token that texts begin with, None where the model wants none."""
        first = int(self.llama.llama_vocab_bos(self.handle))
        wanted = self.llama.llama_vocab_get_add_bos(self.handle) and 0 <= first < self.size
        return first if wanted else None

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text, special tokens recognised unless told otherwise, nothing added."""
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 16
        ids = (self.llama.llama_token * room)()
        found = self.llama.llama_tokenize(self.handle, raw, len(raw), ids, room, False, special)
        if found < 0:
            raise RunnerError(f"the model's tokenizer cannot read a text of {len(raw)} bytes; make it shorter")
        return list(ids[:found])

    def is_end(self, token: int) -> bool:
        """Whether a token ends the answer (any of the model's end-of-generation tokens)."""
        known = self._ends.get(token)
        if known is None:
            known = self._ends[token] = bool(self.llama.llama_vocab_is_eog(self.handle, token))
        return known

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; control tokens have none unless `special` is set."""
        known = self._pieces.get((token, special))
        if known is None:
            known = self._pieces[token, special] = self._piece(token, special)
        return known

    def _piece(self, token: int, special: bool) -> bytes:
        room = 64
        buffer = ctypes.create_string_buffer(room)
        length = self.llama.llama_token_to_piece(self.handle, token, buffer, room, 0, special)
        if length < 0:
            room = -length
            buffer = ctypes.create_string_buffer(room)
            length = self.llama.llama_token_to_piece(self.handle, token, buffer, room, 0, special)
        return buffer.raw[: max(length, 0)]

    def single(self, texts: Iterable[str]) -> frozenset[int]:
        """Those of `texts` that are one token of the vocabulary."""
        return frozenset(ids[0] for ids in map(self.encode, texts) if len(ids) == 1)


class Detokenizer:
    """Tokens to text as they come; half a character waits for its other half. The cost of a token is constant."""

    def __init__(self, vocabulary: Vocabulary, visible: Iterable[str] = ()) -> None:
        """`visible`: control tokens to be written out, which otherwise have no text."""
        self.vocabulary = vocabulary
        self.visible = vocabulary.single(visible)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that a token completes, which may be empty."""
        return self.decoder.decode(self.vocabulary.piece(token, token in self.visible))

    def finish(self) -> str:
        """What is left of an unfinished character, as the replacement character."""
        return self.decoder.decode(b"", final=True)

    def forget(self) -> None:
        """Drop an unfinished character: it will not be finished."""
        self.decoder.reset()

    def text(self, tokens: Sequence[int]) -> str:
        """A whole text at once."""
        return "".join(map(self.feed, tokens)) + self.finish()
