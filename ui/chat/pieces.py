"""Pieces of HTML that Gradio has no component for: the list of conversations and the status line."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nemotron_gguf.ui import console
from nemotron_gguf.ui.chat.tree import Entry, Facts

if TYPE_CHECKING:
    from nemotron_gguf.runner import ChatModel


def escape(text: str) -> str:
    """A text inside HTML, and inside Gradio's own templates, which know `{{…}}` and `${…}`."""
    escaped = html.escape(text.encode("utf-8", "replace").decode("utf-8"))
    return escaped.translate({ord("{"): "&#123;", ord("}"): "&#125;", ord("$"): "&#36;", ord("`"): "&#96;"})


def list_of(
    entries: Sequence[Entry], current: str, live: Sequence[str], words: Mapping[str, str], search: str = ""
) -> str:
    """The conversations as a list of buttons; what is pressed is read from their `data-` attributes."""
    if not entries:
        return f'<p class="ng-none">{escape(words["none_found" if search.strip() else "none"])}</p>'
    items = "".join(_item(entry, entry.id == current, entry.id in live, words) for entry in entries)
    return f'<ul class="ng-list" aria-label="{escape(words["conversations"])}">{items}</ul>'


def _item(entry: Entry, is_current: bool, is_live: bool, words: Mapping[str, str]) -> str:
    title, name = escape(entry.title), escape(entry.id)
    pin = "unpin" if entry.pinned else "pin"
    buttons = "".join(
        f'<button type="button" data-do="{do}" data-id="{name}" data-title="{title}" title="{escape(words[do])}"'
        f' data-sure="{escape(words["sure"])}" aria-label="{escape(words[do])}: {title}">{sign}</button>'
        for do, sign in ((pin, "★" if entry.pinned else "☆"), ("rename", "✎"), ("delete", "✕"))
    )
    current = ' aria-current="true"' if is_current else ""
    dot = '<span class="ng-live" aria-hidden="true">●</span> ' if is_live else ""
    return (
        f'<li{current}><button type="button" class="ng-open" data-do="open" data-id="{name}"{current}>{dot}{title}'
        f"</button><span>{buttons}</span></li>"
    )


def status_of(facts: Facts, context_size: int, memory: str, words: Mapping[str, str], note: str = "") -> str:
    """Speed, time to the first token, how full the context is, what lies on which device."""
    parts = [escape(note)] if note else []
    if facts.per_second:
        parts.append(escape(words["per_second"].format(facts.per_second)))
    if facts.first_seconds:
        parts.append(escape(words["first"].format(facts.first_seconds)))
    size = facts.context_size or context_size
    used = min(facts.context_used, size)
    told = escape(words["context_of"].format(used, size))
    share = used / size if size else 0.0
    meter = (
        f'<span class="ng-context">{escape(words["context"])} <span role="meter" class="ng-bar" aria-valuemin="0"'
        f' aria-valuemax="{size}" aria-valuenow="{used}" aria-valuetext="{told}"'
        f' aria-label="{escape(words["context"])}">'
        f'<span style="width:{share:.1%}"></span></span> {told}</span>'
    )
    spoken = "".join(f"<span>{part}</span>" for part in parts)
    return f'<div class="ng-status">{spoken}{meter}{memory}</div>'


def memory_of(model: ChatModel, words: Mapping[str, str]) -> str:
    """What the model takes on each device, of what the device has."""
    shown = []
    for share in getattr(model.setup.plan, "devices", ()):
        if share.total:
            size = console.size(share.total)
            told = words["of"].format(size, console.size(share.device.memory_total)) if share.is_known else size
            shown.append(f"{share.device.name} {told}")
    return f"<span>{escape(words['memory'])}: {escape(' · '.join(shown))}</span>" if shown else ""
