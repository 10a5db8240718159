"""The widths that a file may have been given, and the keys of our own that tell of it.

A file whose matrices were padded with zeros, or trimmed of neurons, is an ordinary model of those widths to any
program. What it was before stands in `nemotron_gguf.padded_from.*` and `nemotron_gguf.trimmed_from.*`, under the names
that the format has for the widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from nemotron_gguf.models.gguf_values import Value, u32

PADDED, TRIMMED = "nemotron_gguf.padded_from.", "nemotron_gguf.trimmed_from."
NORMS = "nemotron_gguf.padded_norms"
"""How the norms of a padded residual stream were kept right: one of `Norms`."""
TRIMMED_ERROR = "nemotron_gguf.trimmed_error"
"""The predicted error of trimming: the share of the energy of the trimmed matrices' outputs, 0 to 1."""


class Dimension(StrEnum):
    """A width that tensors share."""

    HIDDEN = "hidden"
    EXPERT = "expert"
    SHARED = "shared"
    LATENT = "latent"
    MLP = "mlp"

    @property
    def key(self) -> str:
        """The name of its key, without the architecture."""
        return KEYS[self]


KEYS = {
    Dimension.HIDDEN: "embedding_length",
    Dimension.EXPERT: "expert_feed_forward_length",
    Dimension.SHARED: "expert_shared_feed_forward_length",
    Dimension.LATENT: "moe_latent_size",
    Dimension.MLP: "feed_forward_length",
}


class Norms(StrEnum):
    """Two ways to keep the norms right where the residual stream has columns of zeros.

    A mean over more columns is smaller. EPSILON makes the norms' weights and their epsilon smaller in proportion: all
    other weights keep their bits, but the norm inside the Mamba layers, which is not padded, shares the epsilon. STREAM
    makes the stream larger instead, by every matrix that writes to it, and is exact.
    """

    EPSILON = "epsilon"
    STREAM = "stream"


def padded_from(metadata: Mapping[str, Value]) -> dict[Dimension, int]:
    """The widths before padding that a file's keys tell."""
    return _told(metadata, PADDED)


def trimmed_from(metadata: Mapping[str, Value]) -> dict[Dimension, int]:
    """The widths before trimming that a file's keys tell."""
    return _told(metadata, TRIMMED)


def _told(metadata: Mapping[str, Value], prefix: str) -> dict[Dimension, int]:
    """Numbers that make sense; a file may say anything."""
    found = ((dimension, metadata.get(prefix + key)) for dimension, key in KEYS.items())
    told = {dimension: value.data for dimension, value in found if value is not None and not value.is_array}
    return {
        dimension: width
        for dimension, width in told.items()
        if isinstance(width, int) and not isinstance(width, bool) and 0 < width < 1 << 31
    }


def history_keys(padded: Mapping[Dimension, int], trimmed: Mapping[Dimension, int]) -> dict[str, Value]:
    """The keys that tell from which widths a file was padded and trimmed."""
    keys = {PADDED + dimension.key: u32(width) for dimension, width in padded.items()}
    return keys | {TRIMMED + dimension.key: u32(width) for dimension, width in trimmed.items()}
