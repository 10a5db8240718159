"""What leaving neurons out costs beside padding them: KL divergence over file size, on a model with weights.

    python bench/trimming.py [CHECKPOINT --calibration FILE --held-out FILE] [--tokens 50000] [--block 256]

Without a checkpoint it is the demo model and conversations of its world; its experts are narrower than a block of 256,
so give it --block 128, with types of blocks of 32. For each type of the experts (everything else in Q8_0) there is a
file padded and a file trimmed, each with importance. Beside each trimmed file stands what a padded one of the same size
would have: the padded files' divergence, interpolated in its logarithm over the size. Errors are standard errors over
tokens.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cpp
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nemotron_gguf.convert import FilePlan, Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.imatrix import Imatrix, fill, read_imatrix, write_imatrix
from nemotron_gguf.quant import QuantizeOptions, choose_neurons, file_type, parse_tensor_type, plan_quantization
from nemotron_gguf.quant.trimming import Trimming
from nemotron_gguf.runner.measure.chunks import Chunks, cut
from nemotron_gguf.runner.measure.importance import collect
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.runner.process.client import Client

N_CTX = 512
SUPER = ("Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S")
SMALL = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "IQ4_NL", "Q2_0")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Made:
    """A file's size and the divergence of each token, `(n,) float64` nats."""

    size: int
    kl: Floats

    @property
    def mean(self) -> float:
        return float(self.kl.mean())

    @property
    def error(self) -> float:
        return float(self.kl.std() / math.sqrt(len(self.kl) - 1))


class Model:
    """A file in libllama, on the processor."""

    def __init__(self, path: Path, threads: int) -> None:
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        assert self.model
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = N_CTX
        context.n_threads = context.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        self.batch = llama_cpp.llama_batch_init(N_CTX, 0, 1)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def logits(self, chunks: Chunks) -> Iterator[npt.NDArray[np.float32]]:
        """Of each chunk the second half, `(N_CTX / 2, n_vocab)`."""
        for tokens in chunks.tokens:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
            self.batch.n_tokens = N_CTX
            for index, token in enumerate(tokens.tolist()):
                self.batch.token[index], self.batch.pos[index] = token, index
                self.batch.logits[index] = index >= N_CTX // 2
                self.batch.n_seq_id[index], self.batch.seq_id[index][0] = 1, 0
            assert llama_cpp.llama_decode(self.context, self.batch) == 0
            raw = llama_cpp.llama_get_logits(self.context)
            yield np.ctypeslib.as_array(raw, (N_CTX // 2, self.n_vocab)).copy()

    def close(self) -> None:
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def main() -> None:
    """Make the files, run them, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(chosen.checkpoint / "tokenizer.json"))
    calibration, held_out = (
        chunks_of(tokenizer, path, seed, count)
        for path, seed, count in ((chosen.calibration, 11, chosen.tokens), (chosen.held_out, 12, 2 * chosen.tokens))
    )
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    types = SUPER if chosen.block == 256 else SMALL
    with TemporaryDirectory(prefix="trimming-") as name, open_checkpoint(chosen.checkpoint) as checkpoint:
        bench = Bench(
            Path(name), plan_conversion(checkpoint, "f32"), calibration, held_out, chosen.block, chosen.threads
        )
        report(bench, types)


def chunks_of(tokenizer: Tokenizer, path: Path | None, seed: int, count: int) -> Chunks:
    """`count` tokens of a text, or of the demo model's world."""
    if path is not None:
        tokens = tokenizer.encode(path.read_text(encoding="utf-8")).ids
    else:
        from nemotron_gguf.models.demo.training.tokenizer import Renderer, rendered

        tokens = []
        for text in rendered(Renderer(CHECKPOINT / "chat_template.jinja"), seed, count):
            tokens += tokenizer.encode(text).ids
            if len(tokens) >= count:
                break
    return cut([tokens], N_CTX).first(count // N_CTX)


class Bench:
    """The source, its importance, its logits."""

    def __init__(
        self, folder: Path, plan: FilePlan, calibration: Chunks, held_out: Chunks, block: int, threads: int
    ) -> None:
        self.folder, self.plan, self.held_out, self.block, self.threads = folder, plan, held_out, block, threads
        self.source = folder / "source.gguf"
        write_files([Output(plan, self.source)])
        self.imatrix = self._importance(calibration)
        self.trim = choose_neurons(plan, self.imatrix, block)
        model = Model(self.source, threads)
        shape = (held_out.count, N_CTX // 2, model.n_vocab)
        self.reference = np.lib.format.open_memmap(folder / "reference.npy", "w+", np.float32, shape)
        for place, logits in zip(self.reference, model.logits(held_out), strict=True):
            place[:] = logits
        model.close()

    def _importance(self, calibration: Chunks) -> Imatrix:
        partial, path = self.folder / "partial", self.folder / "imatrix.gguf"
        with Client() as engine:
            placement = Window(threads=self.threads).placement()
            found = collect(engine, read_gguf(self.source), calibration, placement, partial)
            entries, filled = fill(found.partial.entries)
        write_imatrix(
            path, entries, datasets=["calibration"], chunk_count=calibration.count, chunk_size=N_CTX, filled=filled
        )
        return read_imatrix(path)

    def make(self, experts: str | None, trim: Trimming | None, kind: str = "Q8_0") -> Made:
        """A file with the experts in a type, padded to the block, its neurons trimmed or not."""
        types = (parse_tensor_type(f"_(exps|shexp)={experts}"),) if experts else ()
        options = QuantizeOptions(
            file_type(kind), imatrix=self.imatrix, tensor_types=types, pad="all", trim=trim, block=self.block
        )
        path = self.folder / "made.gguf"
        write_files([Output(plan_quantization(self.plan, options), path)], WriteOptions(force=True))
        model = Model(path, self.threads)
        kl = [
            divergence(expected, found)
            for expected, found in zip(self.reference, model.logits(self.held_out), strict=True)
        ]
        model.close()
        return Made(path.stat().st_size, np.concatenate(kl))


def divergence(reference: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> Floats:
    p, q = (log_softmax(logits.astype(np.float64)) for logits in (reference, found))
    return np.asarray((np.exp(p) * (p - q)).sum(axis=1))


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def report(bench: Bench, types: Sequence[str]) -> None:
    """The table, a line as soon as it is known."""
    trimmed = {str(name): len(kept[0]) for name, kept in bench.trim.kept.items()}
    print(f"{bench.held_out.count * N_CTX // 2} tokens; trimmed to {sorted(set(trimmed.values()))} neurons")
    assert bench.trim.error is not None
    print(f"predicted: {bench.trim.error:.2%} of the trimmed outputs' energy is lost")
    alone = bench.make(None, bench.trim, "F32")
    print(f"trimmed alone, in F32: {alone.mean:.5f} ± {alone.error:.5f}")
    padded = {kind: bench.make(kind, None) for kind in types}
    curve = sorted((made.size, made.mean) for made in padded.values())
    print(f"{'experts':8} {'padded':>9} {'KL':>19} {'trimmed':>9} {'KL':>19} {'padded, as large':>17} {'ratio':>6}")
    for kind, wide in padded.items():
        made = bench.make(kind, bench.trim)
        sizes, logs = [size for size, _ in curve], [math.log(mean) for _, mean in curve]
        inside = sizes[0] <= made.size <= sizes[-1]
        same = math.exp(float(np.interp(made.size, sizes, logs))) if inside else math.nan
        print(
            f"{kind:8} {wide.size / 1e6:6.2f} MB {wide.mean:8.5f} ± {wide.error:8.5f} {made.size / 1e6:6.2f} MB"
            f" {made.mean:8.5f} ± {made.error:8.5f} {same:17.5f} {made.mean / same:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
