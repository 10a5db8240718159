"""What a tool is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol


class Tool(Protocol):
    """Something that a model can call: by a name, with arguments that its JSON schema describes."""

    @property
    def name(self) -> str:
        """Letters, digits, `_` and `-`, 64 at most."""

    @property
    def description(self) -> str:
        """What the model is told of it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of its arguments, an object."""

    @property
    def acts(self) -> bool:
        """Whether it may change something, so that a person has to approve each call."""

    def call(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """The result for the model. `stopped`, once set, says that nobody waits any more.

        The arguments fit the schema. Raises ToolError for a call that fails.
        """
