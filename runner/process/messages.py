"""The messages between the front and the engine's process.

Every `Task` is asked under a number; each `Reply` carries that number, and the last one of a task is the `Final` of its
kind. Several tasks may be under way at once. Paths are bytes, as the system spells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.chat.literal import Specials
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.engine.pace import GAP
from nemotron_gguf.runner.events import Answer, Done, Drawn, PromptProgress, Reasoning, ToolCall
from nemotron_gguf.runner.grammar.graph import Grammar
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.memory_messages import (
    Anticipate,
    AskOccupancy,
    Occupancy,
    Restored,
    RestoreState,
    Saved,
    SaveState,
)
from nemotron_gguf.runner.sampling import Sampling


class ListDevices(Struct, frozen=True, tag=True):
    """Which devices are there, with the workers at `rpc` (HOST:PORT) connected? Ends in `Devices`."""

    rpc: tuple[str, ...] = ()


class Probe(Struct, frozen=True, tag=True):
    """What compute buffers would a placement need? Nothing is loaded. Ends in `Probed`."""

    path: bytes
    placement: Placement


class Load(Struct, frozen=True, tag=True):
    """Load a file, in place of any that is loaded. Several `Loading`, ends in `Loaded`.

    `cache_ram`: bytes for copies of memory beside the context (checkpoints, parked conversations). `max_gap`: seconds
    between two tokens of an answer while others' prompts are read.
    """

    path: bytes
    placement: Placement
    verbose: bool = False
    cache_ram: int = 0
    max_gap: float = GAP


class Generate(Struct, frozen=True, tag=True):
    """Answer a prompt. Several events; ends in `Done`.

    `prompt` is a text with special tokens, or token ids; a text is taken apart at `cuts` (characters), which no token
    spans. `max_tokens` bounds what the model draws.
    `reasoning_budget`: tokens it may think; None leaves room for the answer, negative sets no bound. `stop`: texts that
    end the answer. `top_logprobs`: how many likely tokens to name for each that is drawn, None for none at all.
    `format` None leaves the text as it is. `room`: tokens of context that must be free behind the prompt. `ignore_end`:
    go on where the model would end, to measure. `grammar`: what the answer is made of, behind its reasoning.
    """

    prompt: str | tuple[int, ...]
    sampling: Sampling
    max_tokens: int | None = None
    reasoning_budget: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    format: ChatFormat | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    room: int = 1
    ignore_end: bool = False
    cuts: tuple[int, ...] = ()
    grammar: Grammar | None = None


class Tokenize(Struct, frozen=True, tag=True):
    """Which tokens make up a prompt, taken apart at `cuts`? Ends in `Tokens`."""

    text: str
    cuts: tuple[int, ...] = ()


class ReadTexts(Struct, frozen=True, tag=True):
    """Which tokens do texts have for that file, whose vocabulary alone is loaded? Ends in `TextTokens`."""

    path: bytes
    texts: tuple[str, ...]
    special: bool = False


class OutputMatrix(Struct, frozen=True):
    """A model's last matrix, `n_rows` tokens by `n_columns`: the file that has it, where, and in which ggml type."""

    path: bytes
    offset: int
    type: str
    n_rows: int
    n_columns: int


class Score(Struct, frozen=True, tag=True):
    """Run a file over chunks and score its predictions. Several `Loading` and `ChunkScored`, ends in `Measured`.

    `tokens` are int32, chunk after chunk of `n_ctx`; `bos` stands in place of each one's first, -1 for none. Chunks
    before `first_chunk` are left out. `reference`: a file of logits to compare with, `target`: one to append ours to,
    both of `models.reference_logits` or, with `llama_format`, of `models.llama_logits`; empty for none. `matrix`: these
    files hold the inputs of that one, which gives the logits; a target for which it does not ends in `OtherBitsError`.
    """

    path: bytes
    placement: Placement
    tokens: bytes
    n_ctx: int
    bos: int = -1
    first_chunk: int = 0
    reference: bytes = b""
    target: bytes = b""
    llama_format: bool = False
    matrix: OutputMatrix | None = None


class Collect(Struct, frozen=True, tag=True):
    """Run a file over chunks and collect importance. Several `Loading` and `Collected`, ends in `Measured`.

    `tokens`, `n_ctx`, `bos` as in `Score`. What is collected goes to `partial` (`models.imatrix.save_partial`) every
    `save_every` seconds and at the end; where that file is there, bound to the same, its chunks are not read again.
    With `until_covered` it ends after `n_chunks` of them as soon as each expert has seen so many tokens.
    """

    path: bytes
    placement: Placement
    tokens: bytes
    n_ctx: int
    partial: bytes
    bound_to: str
    bos: int = -1
    n_chunks: int = 0
    until_covered: int | None = None
    process_output: bool = False
    save_every: float = 5.0


class Cancel(Struct, frozen=True, tag=True):
    """End the task of that number; it still sends its last reply."""

    task: int


class EndThinking(Struct, frozen=True, tag=True):
    """Close the reasoning of that task's answer now; the answer follows."""

    task: int


Measurement: TypeAlias = Score | Collect
"""Tasks that run a file over texts: they load it themselves, go on in steps, and end in `Measured`."""

Task: TypeAlias = (
    ListDevices
    | Probe
    | Load
    | Generate
    | Anticipate
    | SaveState
    | RestoreState
    | AskOccupancy
    | Tokenize
    | ReadTexts
    | Score
    | Collect
)


class Request(Struct, frozen=True):
    """A task, or a word about one that is under way (then `number` is of no meaning)."""

    number: int
    body: (
        ListDevices
        | Probe
        | Load
        | Generate
        | Anticipate
        | SaveState
        | RestoreState
        | AskOccupancy
        | Tokenize
        | ReadTexts
        | Score
        | Collect
        | Cancel
        | EndThinking
    )


class Devices(Struct, frozen=True, tag=True):
    """All devices that ggml lists."""

    devices: tuple[Device, ...]


class Probed(Struct, frozen=True, tag=True):
    """Bytes of compute buffers by device's name, as libllama would allocate them; the host's are the processor's."""

    compute: Mapping[str, int]


class Loading(Struct, frozen=True, tag=True):
    """How much of a file is loaded, 0 to 1."""

    share: float


class Loaded(Struct, frozen=True, tag=True):
    """The model is ready: tokens of context a conversation has, size of the vocabulary, its special tokens."""

    context_size: int
    n_vocab: int
    specials: Specials = Specials()


class Tokens(Struct, frozen=True, tag=True):
    """The tokens of a text."""

    ids: tuple[int, ...]


class TextTokens(Struct, frozen=True, tag=True):
    """The tokens of several texts as int32, what chunks begin with (-1 for nothing), and the vocabulary's size."""

    texts: tuple[bytes, ...]
    bos: int
    n_vocab: int


class ChunkScored(Struct, frozen=True, tag=True):
    """A chunk has been run: its number, and a row of float64 for each token that was predicted (`measure.values`)."""

    chunk: int
    values: bytes


class Collected(Struct, frozen=True, tag=True):
    """So many chunks have been read in all; tokens that the least used expert, or weight, has seen."""

    chunks: int
    fewest: int


class Measured(Struct, frozen=True, tag=True):
    """A measurement is over, or was cancelled on the way; seconds spent in libllama and in all."""

    complete: bool
    model_seconds: float
    seconds: float


class Failed(Struct, frozen=True, tag=True):
    """A task that could not be done: which error of `runner.errors` it is, in its words."""

    error: str
    message: str


class Reply(Struct, frozen=True):
    """A piece of what a task gives."""

    number: int
    body: (
        Devices
        | Probed
        | Loading
        | Loaded
        | Occupancy
        | Saved
        | Restored
        | Tokens
        | TextTokens
        | ChunkScored
        | Collected
        | Measured
        | Failed
        | PromptProgress
        | Reasoning
        | Answer
        | ToolCall
        | Drawn
        | Done
    )
