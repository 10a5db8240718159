"""The chat page in the browser: conversations that are kept, and answers that go on whoever looks at them."""

from __future__ import annotations

from nemotron_gguf.ui.chat.page import Page, serve
from nemotron_gguf.ui.chat.store import Store

__all__ = ["Page", "Store", "serve"]
