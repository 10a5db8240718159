"""What happens when something is pressed: the store and the answers are changed, and the page shows it."""

from __future__ import annotations

from typing import Any, TypeAlias

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui.chat.generation import told
from nemotron_gguf.ui.chat.layout import LONGEST_TITLE
from nemotron_gguf.ui.chat.markdown import unshown
from nemotron_gguf.ui.chat.showing import Showing
from nemotron_gguf.ui.chat.tree import ROOT, Message, title_of
from nemotron_gguf.ui.chat.view import owners
from nemotron_gguf.ui.chat.visit import Visit

Updates: TypeAlias = dict[Any, Any]
"""New values, by component."""


class Handlers(Showing):
    """What the chat's buttons do; each returns what changes on the page."""

    def ask(self, said: str, visit: Visit) -> Updates:
        """Send a message. Where an answer is being written, the message stays in the box."""
        if not said.strip():
            return {}
        if self.generations.of(visit.chat):
            self.gr.Warning(visit.words["is_answering"])
            return {}
        chat = self.store.chat(visit.chat) if visit.chat else None
        if chat is None:
            visit.chat = self.store.begin(title_of(said), visit.wishes).id
        path = chat.path() if chat else []
        message = self.store.add(visit.chat, Message("", path[-1].id if path else ROOT, "user", said))
        return {self.parts.message: ""} | self._answer(visit, message.id)

    def again(self, visit: Visit) -> Updates:
        """Answer the last question once more; the answers before it stay as versions."""
        asked = self._asked(visit)
        return self._answer(visit, asked.id) if asked else {}

    def edit(self, visit: Visit, event: Any) -> Updates:
        """Ask something else in a question's place; what was there stays as a version."""
        message = self._at(visit, event.index)
        if message is None or message.role != "user" or self._is_busy(visit):
            return self.show(visit)
        said = unshown(str(event.value), message.content)
        if not said.strip() or said == message.content:
            return self.show(visit)
        asked = Message("", message.parent, "user", said, files=message.files)
        return self._answer(visit, self.store.add(visit.chat, asked).id)

    def undo(self, visit: Visit) -> Updates:
        """Take the last question back into the box."""
        asked = self._asked(visit)
        if not asked or self._is_busy(visit):
            return {}
        self.store.remove(visit.chat, asked)
        return {self.parts.message: asked.content} | self.show(visit)

    def go_on(self, visit: Visit) -> Updates:
        """Go on with an answer that was cut or stopped."""
        chat = self.store.chat(visit.chat)
        path = chat.path() if chat else []
        if not path or path[-1].role != "assistant":
            return {}
        return self._try(visit, lambda: self.generations.go_on(visit.chat, path[-1].id))

    def mark(self, visit: Visit, event: Any) -> Updates:
        """What was pressed below a message: another version, or delete."""
        chat = self.store.chat(visit.chat)
        message = chat.message(str(event.id)) if chat else None
        if message is None or self._is_busy(visit):
            return self.show(visit)
        if event.do == "choose":
            self.store.choose(visit.chat, message)
        elif event.do == "delete":
            self.store.remove(visit.chat, message)
        return self.show(visit)

    def pick(self, visit: Visit, event: Any) -> Updates:
        """What was pressed in the list of conversations."""
        wanted, do = str(event.id), str(event.do)
        if do == "open":
            visit.chat = wanted
            return self.show(visit)
        if do in ("pin", "unpin"):
            self.store.pin(wanted, do == "pin")
        elif do == "rename":
            title = title_of(str(event.title), LONGEST_TITLE)
            self.store.rename(wanted, title) if title else None
        elif do == "delete":
            self.generations.stop(wanted)
            self.store.delete(wanted)
            if wanted == visit.chat:
                return self.new(visit)
        return self.list(visit)

    def new(self, visit: Visit) -> Updates:
        """Begin anew; an answer under way in another conversation goes on."""
        visit.wishes = self._now(visit)
        visit.chat = ""
        return self.show(visit)

    def search(self, words: str, visit: Visit) -> Updates:
        """Show the conversations in which these words stand."""
        visit.search = words
        return self.list(visit)

    def stop(self, visit: Visit) -> None:
        """End the answer under way."""
        if generation := self.generations.of(visit.chat):
            generation.stop()

    def answer_now(self, visit: Visit) -> None:
        """End its reasoning."""
        if generation := self.generations.of(visit.chat):
            generation.stop_thinking()

    def _asked(self, visit: Visit) -> Message | None:
        """The last question that is shown."""
        chat = self.store.chat(visit.chat)
        return next((one for one in reversed(chat.path()) if one.role == "user"), None) if chat else None

    def _answer(self, visit: Visit, parent: str) -> Updates:
        return self._try(visit, lambda: self.generations.answer(visit.chat, parent))

    def _try(self, visit: Visit, begin: Any) -> Updates:
        try:
            begin()
        except NemotronError as error:
            self.gr.Warning(told(error, visit.words))
        return self.show(visit)

    def _is_busy(self, visit: Visit) -> bool:
        """Whether an answer is being written here, which is said."""
        busy = self.generations.of(visit.chat) is not None
        if busy:
            self.gr.Warning(visit.words["is_answering"])
        return busy

    def _at(self, visit: Visit, index: Any) -> Message | None:
        """The message of a row of the chatbot."""
        chat = self.store.chat(visit.chat)
        shown = owners(chat.path(), visit.words) if chat else []
        at = index[0] if isinstance(index, list | tuple) else index
        return shown[at] if isinstance(at, int) and 0 <= at < len(shown) else None
