"""Text to tokens and back."""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

from nemotron_gguf.runner.errors import RunnerError


class Vocabulary:
    """A loaded model's tokenizer: texts are read with their special tokens, as a rendered prompt needs it."""

    def __init__(self, llama: Any, model: Any) -> None:
        self.llama = llama
        self.handle = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self.handle))

    def tokenize(self, text: str) -> list[int]:
        """A rendered prompt as token ids, beginning with BOS where the model wants it and the template wrote none."""
        ids = self.encode(text)
        first = int(self.llama.llama_vocab_bos(self.handle))
        if self.llama.llama_vocab_get_add_bos(self.handle) and 0 <= first < self.size and ids[:1] != [first]:
            ids.insert(0, first)
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, special tokens recognised, nothing added."""
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 16
        ids = (self.llama.llama_token * room)()
        found = self.llama.llama_tokenize(self.handle, raw, len(raw), ids, room, False, True)
        if found < 0:
            raise RunnerError(f"the model's tokenizer cannot read a text of {len(raw)} bytes; make it shorter")
        return list(ids[:found])

    def is_end(self, token: int) -> bool:
        """Whether a token ends the answer (any of the model's end-of-generation tokens)."""
        return bool(self.llama.llama_vocab_is_eog(self.handle, token))

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; control tokens have none unless `special` is set."""
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

    def text(self, tokens: Sequence[int]) -> str:
        """A whole text at once."""
        return "".join(map(self.feed, tokens)) + self.finish()
