"""Whether a chat template can be read at all; said at the conversion, since whoever chats can no longer mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_CHECKED = 1 << 18  # characters; what is longer is not looked at, and refused by those who chat
_MAX_REASON = 200  # characters of jinja2's words


def template_note(source: str) -> tuple[str, ...]:
    """A sentence for a template that jinja2 cannot compile; none for one that it can. Nothing of it is run."""
    from jinja2 import TemplateSyntaxError

    if len(source) > MAX_CHECKED:
        return (f"the chat template has {len(source)} characters, more than `nemotron chat` takes ({MAX_CHECKED})",)
    try:
        _environment().compile(source, raw=True)
    except TemplateSyntaxError as error:
        reason = " ".join(f"line {error.lineno}: {error.message}".split())[:_MAX_REASON]
    except RecursionError:
        reason = "it is nested too deeply"
    else:
        return ()
    return (f"the chat template is not valid ({reason}); `nemotron chat` will refuse the file: mend it, convert again",)


def _environment() -> Environment:
    """As transformers reads templates, but for the folding of constants, which would compute."""
    from jinja2 import Environment
    from jinja2.ext import Extension

    class Generation(Extension):
        """`{% generation %}`, which marks what the assistant wrote."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    extensions: list[Any] = ["jinja2.ext.loopcontrols", Generation]
    return Environment(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=extensions)
