"""Conversations out of the page as files, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui.chat.exchange import LARGEST, from_json, to_json, to_markdown
from nemotron_gguf.ui.chat.generation import told
from nemotron_gguf.ui.chat.showing import Showing
from nemotron_gguf.ui.chat.tree import Chat
from nemotron_gguf.ui.chat.visit import Visit

Updates: TypeAlias = dict[Any, Any]


class Filing(Showing):
    """What the buttons for files do."""

    def export_json(self, visit: Visit) -> str:
        """The conversation that is shown, with all of its branches."""
        chat = self.store.chat(visit.chat)
        return self._file(chat.entry.title, ".json", to_json([chat])) if chat else ""

    def export_markdown(self, visit: Visit) -> str:
        """What is shown of it, for people."""
        chat = self.store.chat(visit.chat)
        return self._file(chat.entry.title, ".md", to_markdown(chat, self.model.name).encode()) if chat else ""

    def export_all(self, _visit: Visit) -> str:
        """All conversations."""
        chats = [self.store.chat(entry.id) for entry in self.store.entries()]
        return self._file("conversations", ".json", to_json([chat for chat in chats if isinstance(chat, Chat)]))

    def take_in(self, path: str, visit: Visit) -> Updates:
        """Add the conversations of a file, and show the first of them."""
        try:
            with Path(path).open("rb") as file:
                restored = self.store.restore(from_json(file.read(LARGEST + 1)))
        except NemotronError as error:
            self.gr.Warning(told(error, visit.words))
            return {}
        self.gr.Info(visit.words["imported"].format(len(restored)))
        if restored:
            visit.chat = restored[0].id
        return self.show(visit)

    def _file(self, title: str, suffix: str, data: bytes) -> str:
        """A name and a text, from which the browser makes a file: none of it lies about on this machine."""
        name = re.sub(r"[^\w .-]+", "_", title).strip(" .")[:80] or "conversation"
        return json.dumps({"name": name + suffix, "text": data.decode()})
