"""The input line of a capable terminal: several lines, history, completion. Imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from nemotron_gguf.ui.terminal.history import open_history
from nemotron_gguf.ui.terminal.prompt import is_open

STYLE = Style.from_dict({"mark": "bold", "label": "ansicyan"})


class Editor:
    """prompt_toolkit's editor with the keys of a chat: Enter sends, Alt-Enter begins a new line."""

    takes_drafts = True

    def __init__(self, completions: Callable[[str], Sequence[tuple[str, int, str]]]) -> None:
        self.is_for_command = False
        self.session: PromptSession[str] = PromptSession(
            history=open_history(),
            completer=_Completer(completions),
            complete_while_typing=Condition(_types_a_command),
            key_bindings=_keys(lambda: self.is_for_command),
            multiline=True,
            style=STYLE,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            reserve_space_for_menu=6,
            prompt_continuation=lambda width, _number, _wrapped: " " * width,
        )

    def ask(self, label: str = "", draft: str = "") -> str:
        """A message; one for a command, which has a label, is left by Ctrl-C whatever stands in it."""
        print()
        self.is_for_command = bool(label)
        return self.session.prompt([("class:label", label), ("class:mark", "> ")], default=draft)


def _types_a_command() -> bool:
    text = get_app().current_buffer.text
    return text.startswith("/") and not any(letter.isspace() for letter in text)


class _Completer(Completer):
    def __init__(self, completions: Callable[[str], Sequence[tuple[str, int, str]]]) -> None:
        self.completions = completions

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        for word, back, meaning in self.completions(document.text_before_cursor):
            yield Completion(word, start_position=-back, display=word.rstrip(), display_meta=meaning)


def _keys(is_for_command: Callable[[], bool]) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.document.text_before_cursor) and buffer.document.is_cursor_at_the_end:
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=has_focus(DEFAULT_BUFFER))
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c", filter=has_focus(DEFAULT_BUFFER))
    def empty_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text and not is_for_command():
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys
