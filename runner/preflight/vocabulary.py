"""The vocabulary: its tokens, what stands beside each, and the special ones (load of src/llama-vocab.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.gguf_values import ValueType
from nemotron_gguf.runner.preflight.header import Header

LIST, SCORES, TYPES, MERGES = (f"tokenizer.ggml.{key}" for key in ("tokens", "scores", "token_type", "merges"))
CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
RAW_BYTES = [bytes([byte]).decode("utf-8", "surrogateescape") for byte in range(256)]
BPE = ("gpt2", "hybriddna", "whitespace", "gemma4")  # tokenizers with merges
DEFAULT_BEGIN = {"llama": 1, "bert": 101, "gpt2": 11, "hybriddna": 11, "whitespace": 11, "plamo2": 1}
DEFAULT_END = {"llama": 2, "gpt2": 11, "hybriddna": 11, "whitespace": 11, "t5": 1, "plamo2": 2}
BEGINS = ("llama", "bert")  # tokenizers that put a beginning before each text where the file does not say
BEGINS_PRE = (  # and pre-tokenizers that do
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
    "chameleon",
)  # fmt: skip


def check_vocabulary(header: Header) -> None:
    """The list of tokens, the lists beside it, what the tokenizer needs, the special tokens."""
    words = tokens(header.file)
    kind = header.scalar("tokenizer.ggml.model", ValueType.STRING)
    if not isinstance(kind, str) or kind in ("none", "no_vocab", "test"):
        raise header.fail(f"tokenizer.ggml.model is {kind!r:.60}, so no text can be read with it")
    named = {word: index for index, word in enumerate(words)}
    if len(named) != len(words):
        raise header.fail(f"{len(words) - len(named)} tokens of the vocabulary are there twice")
    _check_lists(header, len(words))
    _check_tokenizer(header, kind, words, named)
    _check_special(header, kind, len(words))


def tokens(file: GGUFFile) -> list[str]:
    """The tokens as libllama names them: cut at a zero byte, the empty ones numbered.

    Raises RunnerError where they are missing or no list of strings.
    """
    value = file.metadata.get(LIST)
    if value is None or not value.is_array or value.type is not ValueType.STRING or not len(value.data):  # type: ignore[arg-type]
        raise Header(file).fail(f"it has no vocabulary ({LIST})")
    words: Sequence[str] = value.data  # type: ignore[assignment]
    cut = (word.partition("\0")[0] if "\0" in word else word for word in words)
    return [word or f"[EMPTY_{index}]" for index, word in enumerate(cut)]


def _check_lists(header: Header, size: int) -> None:
    """A type and a score for each token, as 32-bit numbers."""
    for name, kinds in ((TYPES, (ValueType.INT32,)), (SCORES, (ValueType.FLOAT32, ValueType.INT32))):
        value = header.file.metadata.get(name)
        if value is None:
            continue
        if not value.is_array or value.type not in kinds:
            found = f"a list of {value.type.name}" if value.is_array else f"one {value.type.name}"
            raise header.fail(f"{name} is {found}, expected a list of {kinds[0].name}")
        if len(value.data) != size:  # type: ignore[arg-type]
            raise header.fail(f"{name} has {len(value.data)} items for {size} tokens")  # type: ignore[arg-type]


def _check_tokenizer(header: Header, kind: str, words: Sequence[str], named: dict[str, int]) -> None:
    """What each kind of tokenizer takes for granted."""
    if kind in BPE:
        _check_merges(header)
    if kind == "llama" and any(
        token not in named and raw not in named for token, raw in zip(BYTE_TOKENS, RAW_BYTES, strict=True)
    ):
        raise header.fail("its SentencePiece vocabulary lacks byte tokens (<0x00> to <0xFF>)")
    if kind == "plamo2" and not named.keys() >= set(BYTE_TOKENS):
        raise header.fail("its PLaMo-2 vocabulary lacks byte tokens (<0x00> to <0xFF>)")
    if kind == "rwkv" and not {"\n", "\\n", "\\x0a"} & named.keys():
        raise header.fail("its RWKV vocabulary lacks the line feed")
    types = header.file.metadata.get(TYPES)
    of_bytes = [index for index, item in enumerate(types.plain()) if item == BYTE] if types else []  # type: ignore[arg-type]
    if of_bytes and kind == "bert":
        raise header.fail(f"token {of_bytes[0]} stands for a byte, which a WordPiece vocabulary cannot have")
    if kind == "plamo2" and any(words[index] not in BYTE_TOKENS for index in of_bytes):
        raise header.fail(
            "its PLaMo-2 vocabulary has tokens that stand for bytes under other names than <0x00> to <0xFF>"
        )
    short = next((index for index in of_bytes if len(words[index].encode("utf-8", "surrogateescape")) < 3), None)
    if short is not None:  # its number is taken from the fourth letter on
        raise header.fail(f"token {short} stands for a byte but is called {words[short]!r}, expected <0x00> to <0xFF>")
    if kind == "t5":
        _check_charsmap(header)


def _check_merges(header: Header) -> None:
    value = header.file.metadata.get(MERGES)
    if value is None:
        if header.file.get("tokenizer.ggml.pre") != "kimi-k2":
            raise header.fail(f"its BPE vocabulary has no merges ({MERGES})")
    elif not value.is_array or value.type is not ValueType.STRING:
        raise header.fail(f"{MERGES} is of {value.type.name}, expected a list of STRING")


def _check_charsmap(header: Header) -> None:
    """A normalizer's table begins with the size in bytes of its first part, which is inside it."""
    value = header.file.metadata.get(CHARSMAP)
    if value is None:
        return
    if not value.is_array or value.type not in (ValueType.INT8, ValueType.UINT8):
        raise header.fail(f"{CHARSMAP} is of {value.type.name}, expected a list of INT8 or UINT8")
    raw = bytes(int(item) & 255 for item in value.plain())  # type: ignore[union-attr]
    if len(raw) < 4 or int.from_bytes(raw[:4], "little") + 4 >= len(raw) or raw[0] % 4:
        raise header.fail(f"{CHARSMAP} of {len(raw)} bytes does not hold what its first four bytes claim")


def _check_special(header: Header, kind: str, size: int) -> None:
    """Special tokens are tokens, and those that are put around a text are there."""
    for name in header.file.metadata:
        if name.startswith("tokenizer.ggml.") and name.endswith("_token_id"):
            token = header.scalar(name, ValueType.UINT32)
            if not 0 <= int(token or 0) < size:
                raise header.fail(f"{name} is {token}, expected one of the {size} tokens")
    pre = str(header.scalar("tokenizer.ggml.pre", ValueType.STRING) or "")
    begins = header.scalar("tokenizer.ggml.add_bos_token", ValueType.BOOL)
    begins = kind in BEGINS or kind == "gemma4" or (kind in BPE and pre in BEGINS_PRE) if begins is None else begins
    ends = header.scalar("tokenizer.ggml.add_eos_token", ValueType.BOOL)
    ends = kind == "t5" if ends is None else ends
    for wanted, name, defaults in ((begins, "bos", DEFAULT_BEGIN), (ends, "eos", DEFAULT_END)):
        default = defaults.get(kind, size)
        if wanted and f"tokenizer.ggml.{name}_token_id" not in header.file.metadata and default >= size:
            raise header.fail(f"texts get a token that tokenizer.ggml.{name}_token_id should name, which is missing")
