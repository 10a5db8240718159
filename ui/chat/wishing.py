"""The settings of a conversation: presets and controls that are kept as soon as they are changed."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from nemotron_gguf.ui.chat import presets
from nemotron_gguf.ui.chat.showing import Showing
from nemotron_gguf.ui.chat.tree import Wishes, title_of
from nemotron_gguf.ui.chat.visit import Visit

Updates: TypeAlias = dict[Any, Any]


class Wishing(Showing):
    """What the controls of the settings do."""

    def wish(self, visit: Visit, *values: Any) -> None:
        """Somebody moved a control; `values` as `Parts.wishes` has them."""
        self._keep(visit, self._read(visit, *values))

    def draw(self, visit: Visit, *values: Any) -> Updates:
        """As `wish`, for a control of the sampling: the preset's name follows."""
        wishes = self._read(visit, *values)
        self._keep(visit, wishes)
        return {self.parts.sampling: presets.sampling_key(wishes)}

    def write_system(self, visit: Visit, *values: Any) -> Updates:
        """As `wish`, for the system message: the preset's name follows."""
        wishes = self._read(visit, *values)
        self._keep(visit, wishes)
        key = presets.prompt_key(wishes.system, self.store.prompts())
        return {self.parts.system_preset: key, self.parts.forget: self.gr.Button(visible=key.startswith(presets.MINE))}

    def choose_system(self, key: str, visit: Visit) -> Updates:
        """A preset of the system message was chosen."""
        if key == presets.OWN:
            return {}
        text = presets.prompt_text(key, visit.words, self.store.prompts())
        return self._change(visit, system=text)

    def choose_sampling(self, key: str, visit: Visit) -> Updates:
        """A preset of the sampling was chosen."""
        if key == presets.OWN:
            return {}
        return self._hold(visit, presets.with_sampling(self._now(visit), key))

    def keep_prompt(self, name: str, system: str, visit: Visit) -> Updates:
        """Keep the system message as one of the user's own presets."""
        name = title_of(name or system)
        if name and system.strip():
            self.store.keep_prompt(name, system)
        return {self.parts.prompt_name: ""} | self._change(visit, system=system)

    def forget_prompt(self, key: str, visit: Visit) -> Updates:
        """Forget one of the user's own presets; its text stays with the conversation."""
        self.store.keep_prompt(key.removeprefix(presets.MINE), "")
        return self._change(visit)

    def _change(self, visit: Visit, **changes: Any) -> Updates:
        return self._hold(visit, msgspec.structs.replace(self._now(visit), **changes))

    def _hold(self, visit: Visit, wishes: Wishes) -> Updates:
        self._keep(visit, wishes)
        return self.wishes(visit, wishes)

    def _keep(self, visit: Visit, wishes: Wishes) -> None:
        visit.wishes = wishes
        if visit.chat:
            self.store.wish(visit.chat, wishes)

    def _read(self, visit: Visit, *values: Any) -> Wishes:
        """The controls' values; what is the file's own stays unsaid."""
        system, thinking, budget, *numbers, max_tokens = values
        drawn = dict(zip(presets.DRAWN, numbers, strict=True))
        drawn["top_k"] = int(drawn["top_k"] or 0)
        base = self.model.setup.sampling
        unsaid = {name: None if value == getattr(base, name) else value for name, value in drawn.items()}
        return msgspec.structs.replace(
            self._now(visit),
            system=system,
            thinking=bool(thinking),
            budget=int(budget) or None,
            max_tokens=int(max_tokens or 0) or None,
            **unsaid,
        )
