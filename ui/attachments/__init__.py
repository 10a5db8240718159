"""Files that go with a message: read into text, within bounds, and put into the message's words."""

from nemotron_gguf.ui.attachments.attachment import Attachment
from nemotron_gguf.ui.attachments.errors import AttachmentError
from nemotron_gguf.ui.attachments.message import compose, fenced
from nemotron_gguf.ui.attachments.reading import read

__all__ = ["Attachment", "AttachmentError", "compose", "fenced", "read"]
