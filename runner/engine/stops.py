"""Texts that end an answer, found wherever the stream is cut."""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """Holds back what may be the beginning of a stop text; a text once given out is never taken back."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(text for text in texts if text)
        self.longest = max(map(len, self.texts), default=0)
        self.held = ""
        self.hit = False  # a stop text was found: the answer ends before it

    def feed(self, text: str) -> str:
        """What may be given out of the text so far."""
        if not self.texts or self.hit:
            return "" if self.hit else text
        whole = self.held + text
        found = [place for place in map(whole.find, self.texts) if place >= 0]
        if found:
            self.hit, self.held = True, ""
            return whole[: min(found)]
        keep = self._beginning(whole)
        self.held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def finish(self) -> str:
        """What was held back and is no stop text."""
        text, self.held = self.held, ""
        return text

    def _beginning(self, whole: str) -> int:
        """Length of the longest end of `whole` that begins a stop text."""
        for length in range(min(self.longest - 1, len(whole)), 0, -1):
            if any(text.startswith(whole[-length:]) for text in self.texts):
                return length
        return 0
