"""A model's Markdown as Gradio can show it: HTML stays text, and `$x$` is mathematics where it is surely meant so."""

from __future__ import annotations

import re

DELIMITERS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
"""Of mathematics, for Gradio's Chatbot; a single dollar is no mark of its, for prices have it too."""

# what is longer than these bounds is taken for text, so that no text costs more than its length
_PARTS = re.compile(
    r"(?P<fence>^[ \t>]*(?P<mark>`{3,}|~{3,})[^\n]*(?:\n[\s\S]*?)?(?:^[ \t>]*(?P=mark)[`~]*[ \t]*$|\Z))"
    r"|(?P<code>(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n)[\s\S]){0,1000}?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<display>\$\$[\s\S]{1,2000}?\$\$|\\\[[\s\S]{1,2000}?\\\]|\\\((?:(?!\n[ \t]*\n)[\s\S]){1,1000}?\\\))"
    # as pandoc has it: no space inside of the dollars, no digit behind the second
    r"|(?<![\\$\w])\$(?=[^\s$])(?P<inline>[^$\n]{0,500}?[^\s\\$])\$(?![\w$])"
    r"|(?P<escaped>\\[\s\S])"
    r"|(?P<tag><(?=[A-Za-z/!?]))",
    re.MULTILINE,
)


def shown(text: str) -> str:
    """The same text with a backslash before whatever would be HTML outside of code, so that it is shown, not run."""
    return _PARTS.sub(_part, text)


def unshown(text: str, original: str) -> str:
    """What somebody made of a text that was shown: the backslashes of `shown` taken out again."""
    return text if "\\<" in original else text.replace("\\<", "<")


def _part(match: re.Match[str]) -> str:
    if match["tag"]:
        return "\\<"
    if match["inline"]:
        return f"\\({match['inline']}\\)"
    return match[0]
