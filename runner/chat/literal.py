"""What users, tools and files say stays text: none of it becomes one of the model's special tokens.

A tokenizer reads the texts of special tokens wherever they stand, so `<|im_end|>` in a log would end the user's turn.
The template's own must be read so, and those of a message must not. To tell them apart, a mark is put behind each
character of a message with which a special token could begin, and the messages are rendered again: where a special
token begins right before a mark, the prompt is cut there, and its two pieces are tokenized apart. So it does not matter
what a template makes of a message, as taking out the `/think` of `<|im_/thinkend|>`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nemotron_gguf.runner.errors import RunnerError

_MARKS = "\x7f" + "".join(map(chr, (*range(1, 9), *range(14, 28), *range(0xE000, 0xF900))))
"""Characters that are no white space and that nobody writes: the first that a prompt has not is its mark."""


@dataclass(frozen=True, slots=True)
class Specials:
    """Texts of a vocabulary's special tokens, as libllama knows them: `control` and `user_defined` ones."""

    control: tuple[str, ...] = ()
    user_defined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt; at `cuts` (characters) it is taken apart for the tokenizer, and no token spans one."""

    text: str
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Literal:
    """Special tokens that must not come of a message: of those `of_others`, and of those `of_assistant`."""

    of_others: Words
    of_assistant: Words

    @classmethod
    def of(cls, specials: Specials, source: str, marks: Collection[str]) -> Literal:
        """`source`: the template's, `marks`: those of reasoning and calls, which stay in what the model has said.

        A user-defined token is one of them where the template writes it itself; others (a tab, `<table>`) are but text.
        What the model has said is read again as it was written, of which it shows no control tokens but the marks.
        """
        written = [text for text in specials.user_defined if text.strip() and text in source]
        spoken = [text for text in specials.control if text not in marks]
        return cls(Words([*specials.control, *written]), Words(spoken, spared=marks))

    def concerns(self, messages: Sequence[dict[str, Any]], tools: object) -> bool:
        """Whether anything in them could be a part of a special token."""
        said = [(self._words(message, key), value) for message in messages for key, value in message.items()]
        said.append((self.of_others, tools))
        return any(words.may_begin_in(text) for words, value in said if words for text in texts_in(value))

    def marked(self, messages: Sequence[dict[str, Any]], mark: str) -> list[dict[str, Any]]:
        """Messages with a mark behind every character that may begin a special token."""
        return [
            {key: self._words(message, key).marked(value, mark) for key, value in message.items()}
            for message in messages
        ]

    def _words(self, message: dict[str, Any], key: str) -> Words:
        """What the operator writes is trusted, what others write is not, and of the model's own the arguments."""
        role = message["role"]
        if key == "role" or role in ("system", "developer"):
            return _NONE
        return self.of_assistant if role == "assistant" and key != "tool_calls" else self.of_others

    def cut(self, rendered: str, mark: str, plain: str) -> Prompt:
        """The prompt, from what the template made of marked messages and of `plain` ones."""
        for spelling in _spellings(mark)[1:]:
            rendered = rendered.replace(spelling, mark)
        pieces = rendered.split(mark)
        text, marked, at = "".join(pieces), set[int](), 0
        for piece in pieces[:-1]:
            at += len(piece)
            marked.add(at)
        begins = list(self.of_others.places(text))
        cuts = tuple(place + 1 for place in begins if place + 1 in marked)
        if not cuts and len(begins) == len(list(self.of_others.places(plain))):
            return Prompt(plain)  # which the marks may have changed where a template looks for some text in a message
        return Prompt(text, cuts)


class Words:
    """Texts to be found quickly, however many there are. Those of one character cannot be cut, and are left out."""

    def __init__(self, texts: Iterable[str] = (), spared: Iterable[str] = ()) -> None:
        """`spared`: texts that get no mark, since a template looks for them."""
        self._known = frozenset(text for text in texts if len(text) > 1)
        self._lengths: dict[str, set[int]] = {}  # of those that begin with these two letters
        for text in self._known:
            self._lengths.setdefault(text[:2], set()).add(len(text))
        letters = "".join(sorted({text[0] for text in self._known}))
        self._first = re.compile(f"[{re.escape(letters)}]" if letters else "(?!)")
        kept = "|".join(map(re.escape, filter(None, spared)))
        self._markable = re.compile(f"(?!{kept}){self._first.pattern}") if kept else self._first

    def __bool__(self) -> bool:
        return bool(self._known)

    def may_begin_in(self, text: str) -> bool:
        """Whether a text has a character with which one begins."""
        return self._first.search(text) is not None

    def places(self, text: str) -> Iterator[int]:
        """Where one begins, also within another."""
        for found in self._first.finditer(text):
            at = found.start()
            if any(text[at : at + length] in self._known for length in self._lengths.get(text[at : at + 2], ())):
                yield at

    def marked(self, value: Any, mark: str) -> Any:
        """All texts in a value, the keys of mappings too."""
        if isinstance(value, str):
            return self._markable.sub(rf"\g<0>{mark}", value)
        if isinstance(value, dict):
            return {self.marked(key, mark): self.marked(item, mark) for key, item in value.items()}
        return [self.marked(item, mark) for item in value] if isinstance(value, list) else value


_NONE = Words()


def free_mark(*texts: str) -> str:
    """A character that none of the texts has, in no spelling. Raises RunnerError where they have them all."""
    for mark in _MARKS:
        if not any(spelling in text for spelling in _spellings(mark) for text in texts):
            return mark
    raise RunnerError("the conversation uses every private character of Unicode; take some out")


def _spellings(mark: str) -> tuple[str, str, str]:
    """The character, and as Python and JSON write it."""
    return mark, f"\\x{ord(mark):02x}", f"\\u{ord(mark):04x}"


def texts_in(value: object) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            yield from texts_in(item)
