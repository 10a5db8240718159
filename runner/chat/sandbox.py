"""A place where a stranger's template can compute text, within limits, and touch nothing else."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from nemotron_gguf.runner.chat.limits import MAX_SOURCE, Meter, TooMuchError


class Sandbox:
    """An environment and its meter. One template renders at a time, from whatever thread."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._lock = threading.Lock()
        from nemotron_gguf.runner.chat.environment import Environment

        self.environment = Environment(self)

    def compile(self, source: str) -> Any:
        """A template. Raises jinja2's errors, and TooMuchError for a source that is too long."""
        if len(source) > MAX_SOURCE:
            raise TooMuchError(f"{len(source)} characters, expected {MAX_SOURCE} at most")
        with self._lock:
            self.meter = Meter()
            return self.environment.from_string(source)

    def variables(self, source: str) -> frozenset[str]:
        """The variables that a template reads without having set them."""
        from jinja2.meta import find_undeclared_variables

        with self._lock:
            self.meter = Meter()
            return frozenset(find_undeclared_variables(self.environment.parse(source)))

    def render(self, template: Any, values: Mapping[str, Any], seconds: float | None = None) -> str:
        """What a template writes, in `seconds` at most. Anything may be raised: a template is a program."""
        with self._lock:
            self.meter = Meter(list(values.values()), seconds)
            text: str = template.render(values)
            return text
