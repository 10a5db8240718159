"""What can be typed at the prompt besides messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.ui.attachments import read
from nemotron_gguf.ui.terminal import saved
from nemotron_gguf.ui.terminal.attach import split_paths
from nemotron_gguf.ui.terminal.safe import safe
from nemotron_gguf.ui.terminal.words import count

if TYPE_CHECKING:
    from nemotron_gguf.ui.terminal.session import Session

KEYS = (
    ("Enter", "sends"),
    ("Alt-Enter", 'begins a new line; so does Enter behind a \\ or within """ and """'),
    ("Ctrl-C", "stops the answer; at the prompt, twice leaves"),
    ("Ctrl-T", "ends the thinking under way: the answer follows"),
    ("Tab, Ctrl-R", "complete a command or a path; search the history"),
)


@dataclass(frozen=True)
class Command:
    """A command: its name with the slash, what may follow it, what it does."""

    name: str
    words: str
    meaning: str
    run: Callable[[Session, str], None]
    choices: tuple[str, ...] = ()
    takes_path: bool = False


def find(name: str) -> Command | None:
    """The command of that name."""
    return next((one for one in (*COMMANDS, *_ALIASES) if one.name == name), None)


def nearest(name: str) -> str:
    """The command that was probably meant, empty where none is near."""
    names = [one.name for one in (*COMMANDS, *_ALIASES)]
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), "")


def is_command(line: str) -> bool:
    """Whether a line is meant as a command: a slash and a word, and no path such as /etc/hosts."""
    word = next(iter(line.split(maxsplit=1)), "")
    return word.startswith("/") and "/" not in word[1:]


def _think(session: Session, words: str) -> None:
    if words not in ("", "on", "off"):
        raise RunnerError(f"/think takes on or off, not {words!r}")
    session.talk.thinking = words != "off"
    if session.talk.thinking and session.talk.budget == 0:
        session.talk.budget = None
    session.note(f"thinking is {words or 'on'}{session.switch_note()}")


def _no_think(session: Session, words: str) -> None:
    del words
    _think(session, "off")


def _budget(session: Session, words: str) -> None:
    if words.isdecimal():
        session.talk.budget = int(words)
    elif words == "off":
        session.talk.budget = None
    elif words:
        raise RunnerError(f"/budget takes a number of tokens or off, not {words!r}")
    budget = session.talk.budget
    session.note("thinking has no budget of its own" if budget is None else f"thinks {budget} tokens at most")


def _effort(session: Session, words: str) -> None:
    if words not in ("", "low", "normal"):
        raise RunnerError(f"/effort takes low or normal, not {words!r}")
    if words:
        session.talk.low_effort = words == "low"
    session.note(f"effort is {'low' if session.talk.low_effort else 'normal'}")


def _thoughts(session: Session, words: str) -> None:
    del words
    thoughts = [m["reasoning_content"] for m in session.talk.messages if m.get("reasoning_content")]
    if not thoughts:
        raise RunnerError("there is nothing that the model thought so far")
    session.show(safe(str(thoughts[-1])).strip(), "dim italic")


def _fold(session: Session, words: str) -> None:
    if words not in ("", "on", "off"):
        raise RunnerError(f"/fold takes on or off, not {words!r}")
    session.fold = words != "off"
    session.note("thinking is " + ("folded to a line" if session.fold else "shown in full"))


def _retry(session: Session, words: str) -> None:
    del words
    before = list(session.talk.messages)
    text = session.talk.undo()
    if not text:
        raise RunnerError("there is no message to answer again")
    session.say(text, before)


def _edit(session: Session, words: str) -> None:
    asked = [index for index, message in enumerate(session.talk.messages) if message["role"] == "user"]
    if not asked:
        raise RunnerError("there is no message to edit")
    if words and not (words.isdecimal() and 1 <= int(words) <= len(asked)):
        raise RunnerError(f"/edit takes the number of one of your {len(asked)} messages, not {words!r}")
    index = asked[int(words) - 1 if words else -1]
    text = session.ask("edit", str(session.talk.messages[index]["content"]))
    if not text:
        session.note("nothing was changed")
        return
    before = list(session.talk.messages)
    del session.talk.messages[index:]
    session.say(text, before)


def _undo(session: Session, words: str) -> None:
    del words
    text = session.talk.undo()
    if not text:
        raise RunnerError("there is no message to take back")
    first = safe(text).split("\n")[0]
    session.note(f"taken back: {first if len(first) <= 60 else first[:60] + '…'}")


def _clear(session: Session, words: str) -> None:
    del words
    session.talk.clear()
    session.files.clear()
    session.note("a new conversation begins")


def _system(session: Session, words: str) -> None:
    if words == "-":
        session.talk.system = None
        session.note("there is no system message any more")
    elif words:
        session.talk.system = words
        session.note("the system message is set; it holds from the next answer on")
    else:
        session.show(safe(session.talk.system or "There is no system message; /system TEXT sets one."))


def _file(session: Session, words: str) -> None:
    if words == "-":
        session.files.clear()
        session.note("nothing is attached any more")
    elif words:
        session.files += [read(path) for path in split_paths(words)]
    elif not session.files:
        raise RunnerError("/file takes the path of a file: text, code, Markdown, CSV, PDF or DOCX")
    for one in session.files:
        session.note(f"goes with the next message: {one.describe()}")


def _save(session: Session, words: str) -> None:
    _write(session, words, replace=False)


def _save_over(session: Session, words: str) -> None:
    _write(session, words, replace=True)


def _write(session: Session, words: str, *, replace: bool) -> None:
    path = _one_path(words, "/save")
    if not session.talk.messages:
        raise RunnerError("there is nothing to save yet")
    kept = saved.Saved(
        saved.FORMAT,
        saved.VERSION,
        session.model.name,
        saved.now(),
        saved.from_messages(session.talk.messages),
        session.talk.system,
        session.talk.thinking,
        session.talk.budget,
        session.talk.low_effort,
    )
    size = saved.save(kept, path, replace=replace)
    session.note(f"{count(len(kept.messages), 'message')} saved in {path} ({size} bytes)")


def _load(session: Session, words: str) -> None:
    path = _one_path(words, "/load")
    found, talk = saved.load(path), session.talk
    talk.messages[:] = saved.as_messages(found.messages)
    talk.system, talk.thinking = found.system, found.thinking
    talk.budget, talk.low_effort = found.budget, found.low_effort
    session.note(f"{count(len(found.messages), 'message')} loaded, held with {safe(found.model)}; the last ones:")
    session.show_last()


def _one_path(words: str, command: str) -> Path:
    paths = split_paths(words) if words else []
    if len(paths) != 1:
        raise RunnerError(f"{command} takes one path" + (" (put it in quotes)" if paths else ""))
    return Path(paths[0]).expanduser()


def _stats(session: Session, words: str) -> None:
    del words
    session.show("\n".join(session.totals.lines()))


def _help(session: Session, words: str) -> None:
    del words
    session.show_pairs([(f"{one.name} {one.words}".strip(), one.meaning) for one in COMMANDS])
    session.show("")
    session.show_pairs(KEYS)


def _exit(session: Session, words: str) -> None:
    del session, words
    raise EOFError


COMMANDS = (
    Command("/think", "[on|off]", "think before answering, or answer at once", _think, ("on", "off")),
    Command("/no_think", "", "the same as /think off", _no_think),
    Command("/budget", "N|off", "think N tokens at most", _budget, ("off",)),
    Command("/effort", "low|normal", "think briefly, where the model can", _effort, ("low", "normal")),
    Command("/thoughts", "", "show what was thought last", _thoughts),
    Command("/fold", "on|off", "fold the thinking once it is over, or show it in full", _fold, ("on", "off")),
    Command("/retry", "", "answer the last message again", _retry),
    Command("/edit", "[N]", "change your last message, or your Nth, and go on from there", _edit),
    Command("/undo", "", "take back the last message and its answer", _undo),
    Command("/file", "PATH...", "attach texts, PDF or DOCX to the next message; - drops them", _file, takes_path=True),
    Command("/system", "[TEXT]", "show or set the system message; - removes it", _system),
    Command("/save", "PATH", "save as JSON, or as Markdown (.md); /save! replaces a file", _save, takes_path=True),
    Command("/load", "PATH", "go on with a saved conversation", _load, takes_path=True),
    Command("/stats", "", "speed, context and totals", _stats),
    Command("/clear", "", "begin a new conversation", _clear),
    Command("/help", "", "this list", _help),
    Command("/exit", "", "leave, as Ctrl-D does", _exit),
)
_ALIASES = (
    Command("/thinking", "[on|off]", "", _think, ("on", "off")),
    Command("/save!", "PATH", "", _save_over, takes_path=True),
    Command("/quit", "", "", _exit),
)
