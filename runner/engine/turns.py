"""Where the turns of a rendered conversation end, and where it is worth while to keep a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from nemotron_gguf.runner.engine.vocabulary import Vocabulary

FAR_APART = 512  # tokens, or a 16th of the prompt: old turns that were never read one by one need no checkpoint each
BEFORE_THE_END = 4  # tokens: so many, as llama.cpp's server has it, where the template marks no end of a turn
LAST_TURN = 64  # tokens: an end of a turn within the last so many is the last turn's


def turn_ends(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Positions behind tokens that end a turn, in rising order; those of a prompt share it up to one of them."""
    stops = {token for token in set(tokens) if vocabulary.is_end(token)}
    ends = [place + 1 for place, token in enumerate(tokens) if token in stops]
    if len(tokens) > BEFORE_THE_END and not any(place >= len(tokens) - LAST_TURN for place in ends):
        ends.append(len(tokens) - BEFORE_THE_END)
    return [place for place in ends if place < len(tokens)]


def worth_keeping(ends: Sequence[int], start: int, total: int) -> list[int]:
    """Of the ends of turns in a prompt of `total` tokens that is read from `start` on, those to keep a checkpoint at.

    The first turn's, which other conversations may share; the last two, between which the newest message lies; and of
    the others some, far apart.

    >>> worth_keeping([20, 60, 300, 340, 1500, 1540], 0, 1550)
    [20, 1500, 1540]
    """
    ahead = [place for place in ends if start < place < total]
    apart, kept = max(FAR_APART, total // 16), list[int]()
    for index, place in enumerate(ahead):
        is_first, is_last = place == ends[0], index >= len(ahead) - 2
        if is_first or is_last or place - (kept[-1] if kept else start) >= apart:
            kept.append(place)
    return kept
