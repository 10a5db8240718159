"""The recipe that a choice becomes."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui.writing import digest_of

if TYPE_CHECKING:
    from nemotron_gguf.models.divergences import Divergence
    from nemotron_gguf.quant.fit.choice import Choice


def write_recipe(
    path: Path, choice: Choice, name: str, measured: Divergence | None, imatrix: Path | None, model: str
) -> None:
    """Write a recipe under a temporary name and rename it. Raises NemotronError where the disk refuses."""
    from nemotron_gguf.quant.recipe_file import recipe_text

    importance = {"name": imatrix.name, "sha256": digest_of(imatrix) or ""} if imatrix else {}
    about: dict[str, str | int | float] = {
        "made_by": f"nemotron-gguf {version('nemotron-gguf')}",
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "model": model,
        "bytes": choice.nbytes,
        "predicted_divergence": choice.loss,
    }
    if measured:
        about |= {
            "measured_divergence": measured.mean,
            "measured_error": measured.error,
            "measured_tokens": measured.tokens,
        }
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(recipe_text(choice.recipe(name, importance, about)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise NemotronError(f"{path} cannot be written: {error.strerror or error}; name another with -o") from error
