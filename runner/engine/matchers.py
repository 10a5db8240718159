"""What answers with grammars have in common: the vocabulary's spellings, and the automata of the latest grammars."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from nemotron_gguf.runner.engine.matcher import Matcher
from nemotron_gguf.runner.engine.spellings import Spellings, spellings
from nemotron_gguf.runner.engine.vocabulary import Vocabulary
from nemotron_gguf.runner.grammar.graph import Grammar

KEPT = 8  # grammars; an automaton takes up to 20 MB


class Matchers:
    """Automata that answers share: the second answer of a form finds what the first one has worked out."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._spelled: Spellings | None = None
        self._kept: OrderedDict[Grammar, Matcher] = OrderedDict()

    def spellings(self) -> Iterator[Spellings | None]:
        """The vocabulary's spellings, at last; None on the way."""
        if self._spelled is None:
            for found in spellings(self.vocabulary):
                self._spelled = found
                yield found
        else:
            yield self._spelled

    def of(self, grammar: Grammar) -> Matcher:
        """A grammar's automaton. Raises GrammarError where its beginning can be read in too many ways."""
        if grammar not in self._kept or self._kept[grammar].is_large:
            self._kept[grammar] = Matcher(grammar)
        self._kept.move_to_end(grammar)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[grammar]
