"""Bytes as text: which encoding they have, found out where that is certain, and refused where it is not."""

from __future__ import annotations

import codecs

from nemotron_gguf.ui.attachments.errors import AttachmentError

SAMPLE = 200_000  # bytes by which an encoding is told
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's mark, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLDER = ["gb18030", "big5", "shift_jis", "euc_jp", "cp949", "cp1252", "cp1251", "koi8_r"]
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\b\x1a\x1b"))


def decode(data: bytes, name: str) -> tuple[str, str]:
    """The text, and its encoding where that had to be found out (empty for UTF-8, or a mark that names it).

    Line ends become "\\n". Raises AttachmentError for what is binary, or in an encoding that cannot be told.
    """
    marked = mark_of(data)
    try:
        text, found = data.decode(marked or "utf-8"), ""
    except UnicodeDecodeError as error:
        if marked:
            raise AttachmentError(
                f"{name} begins as {marked.removesuffix('-sig').upper()} and is damaged at byte {error.start};"
                " save it again as UTF-8"
            ) from error
        text, found = _older(data, name, error.start)
    if "\0" in text:
        raise AttachmentError(f"{name} is binary (it has zero bytes); only texts, PDF and DOCX can be attached")
    return text.replace("\r\n", "\n"), found


def mark_of(data: bytes) -> str:
    """The encoding that a mark at the beginning names, empty where there is none."""
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")


def _older(data: bytes, name: str, start: int) -> tuple[str, str]:
    """Text of an encoding of before Unicode, told by the letters that it would make."""
    sample = data[:SAMPLE].rpartition(b"\n")[0] or data[:SAMPLE]
    if b"\0" in data:
        raise AttachmentError(f"{name} is binary (it has zero bytes); only texts, PDF and DOCX can be attached")
    if len(sample) - len(sample.translate(None, _CONTROLS)) > len(sample) // 100:
        raise AttachmentError(f"{name} is binary (it has control characters); only texts, PDF and DOCX can be attached")
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if sum(map("\x7f".__lt__, text)) - bad > 10 * bad:  # letters beyond ASCII, which no other encoding makes by chance
        return text, f"UTF-8, in which {bad} byte{'' if bad == 1 else 's'} cannot be read"
    encoding = _certain(sample)
    try:
        if encoding:
            return data.decode(encoding), encoding
    except UnicodeDecodeError:  # the sample had it, the rest has not
        pass
    raise AttachmentError(
        f"{name} is no text in UTF-8 (byte {start} is 0x{data[start]:02x}), and which encoding it has is not certain;"
        " save it as UTF-8"
    )


def _certain(sample: bytes) -> str:
    """The one encoding in which a sample reads well; empty where there is none, or more than one."""
    from charset_normalizer import from_bytes

    found = sorted(from_bytes(sample, cp_isolation=_OLDER), key=lambda one: (one.chaos, -one.coherence))
    if not found or found[0].chaos > 0.1:
        return ""
    best, rivals = found[0], found[1:]
    if best.coherence == 0 and any(rival.chaos - best.chaos < 0.02 for rival in rivals):
        return ""
    return best.encoding
