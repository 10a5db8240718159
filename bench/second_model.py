"""A second model to measure with: a Nemotron 3 of 17 million parameters, trained on text found on any machine.

    python bench/second_model.py FOLDER [--minutes 40] [--threads 2] [--seed 5]

Leaves FOLDER/checkpoint (BF16, as on the Hub), FOLDER/calibration.txt and FOLDER/held_out.txt (101,000 tokens and more
each, never trained on). The first checkpoint is there after a third of the time. Stopped, the same command goes on.
Its widths are to the blocks of 256 what the 30B's are: hidden 448 (padded to 512), experts 288 and shared experts 544
(trimmed to 256 and 512), all else a multiple.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from second_corpus import gather  # type: ignore[import-not-found]  # the module beside this one
from torch.nn import functional as F  # noqa: N812 - the usual name

from nemotron_gguf.models.demo.training import checkpoint
from nemotron_gguf.models.demo.training.model import MoE, Nemotron
from nemotron_gguf.models.demo.training.tokenizer import PLAIN, SPECIAL, SPLIT, splitter, tokenizer_config
from nemotron_gguf.models.demo.training.train import optimizers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB, BOS = 4096, SPECIAL.index("<s>")
FAST_IN_16_BITS = torch.backends.cpu.get_cpu_capability() == "AVX512"  # ten times slower than float32 elsewhere
ENOUGH = 101_000  # tokens of each text to measure with: 50,000 predictions in the second halves of its chunks of 512
SIZES: dict[str, Any] = {
    "hidden_size": 448,
    "intermediate_size": 288,
    "moe_intermediate_size": 288,
    "moe_shared_expert_intermediate_size": 544,
    "mamba_num_heads": 8,
    "ssm_state_size": 64,
    "n_routed_experts": 8,
    "vocab_size": VOCAB,
}
CONFIG = {**checkpoint.CONFIG, **SIZES}
BATCH = 4096  # tokens a step
SHORT, LONG = 256, 512  # tokens a sequence, before and after three fifths of the time
RATE = 2e-3  # AdamW's rate; Muon's is ten times as large
Tokens = npt.NDArray[np.uint16]


@dataclass
class Progress:
    """Where the training stands."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of VOCAB tokens with the demo model's pattern and special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = splitter(SPLIT)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(token, special=token not in PLAIN, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def prepare(folder: Path) -> tuple[Tokens, Tokens]:
    """Texts, tokenizer and tokens in the folder, once; returns the tokens to train on and the held-out ones."""
    kept = folder / "tokens.npz"
    if not kept.exists():
        corpus = gather()
        at = folder / "checkpoint"
        at.mkdir(parents=True, exist_ok=True)
        tokenizer = train_tokenizer(list(corpus.training[:1500]))
        tokenizer.save(str(at / "tokenizer.json"), pretty=False)
        (at / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(checkpoint_template(), at / "chat_template.jinja")
        for name, text in (("calibration", corpus.calibration), ("held_out", corpus.held_out)):
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
            if (count := len(tokenizer.encode(text).ids)) < ENOUGH:
                raise SystemExit(f"{name}: {count} tokens, {ENOUGH} are needed: too little text under sys.prefix")
        held_out = np.array(tokenizer.encode(corpus.held_out).ids, np.uint16)
        ids = [np.array([BOS, *coded.ids], np.uint16) for coded in tokenizer.encode_batch(list(corpus.training))]
        np.savez(folder / "tokens.part.npz", training=np.concatenate(ids), held_out=held_out)
        (folder / "tokens.part.npz").replace(kept)
    with np.load(kept) as arrays:
        print({name: len(arrays[name]) for name in arrays.files}, flush=True)
        return arrays["training"], arrays["held_out"]


def checkpoint_template() -> Path:
    """The demo model's chat template; this model was not taught to use it."""
    from nemotron_gguf.models.demo import CHECKPOINT

    return CHECKPOINT / "chat_template.jinja"


def batch(tokens: Tokens, seed: int, step: int, length: int) -> torch.Tensor:
    """(sequences, length + 1) tokens from random places, the same ones for the same step."""
    rng = np.random.default_rng((seed, step))
    starts = rng.integers(0, len(tokens) - length - 1, BATCH // length)
    return torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts]).astype(np.int64))


def loss_of(model: Nemotron, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats."""
    with torch.autocast("cpu", torch.bfloat16, enabled=FAST_IN_16_BITS):
        logits = model(ids[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model: Nemotron, tokens: Tokens, count: int = 24) -> float:
    """Nats a token over the first `count` sequences of the held-out text."""
    model.eval()
    rows = torch.from_numpy(tokens[: count * LONG].reshape(count, LONG).astype(np.int64))
    losses = [loss_of(model, part).item() for part in torch.split(rows, 8)]
    model.train()
    return sum(losses) / len(losses)


def rate_at(done: float, step: int) -> float:
    """The share of the full rate after `done` of the time: 40 steps to warm up, then falling in the second half."""
    return min(1.0, (step + 1) / 40, max(0.02, 2 * (1 - done)))


class Training:
    """Model, optimizers and progress, in a folder that they can be taken up from."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.folder, self.seconds, self.seed = folder, seconds, seed
        self.model, self.progress = Nemotron(CONFIG), Progress()
        self.muon, self.adam = optimizers(self.model, RATE)
        self.moes = [module for module in self.model.modules() if isinstance(module, MoE)]
        self.state = folder / "state.pt"
        if self.state.exists():
            weights, muon, adam, at = torch.load(self.state)
            self.model.load_state_dict(weights)
            self.muon.load_state_dict(muon)
            self.adam.load_state_dict(adam)
            self.progress = Progress(**at)

    @property
    def done(self) -> float:
        """The share of the time that is used up."""
        return self.progress.seconds / self.seconds

    def step(self, tokens: Tokens) -> float:
        """One update; returns the loss before it."""
        rate = rate_at(self.done, self.progress.step)
        for optimizer, base in ((self.muon, 10 * RATE), (self.adam, RATE)):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        loss = loss_of(self.model, batch(tokens, self.seed, self.progress.step, LONG if self.done > 0.6 else SHORT))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_IN_16_BITS):
            self.muon.step()
        self.adam.step()
        self.model.zero_grad()
        for moe in self.moes:
            moe.gate.balance(1e-3 * rate)
        self.progress.step += 1
        self.progress.tokens += BATCH
        return loss.item()

    def save(self) -> None:
        """Everything needed to go on; the checkpoint too once a third of the time is over."""
        partial = self.folder / "state.pt.part"
        states = [self.model.state_dict(), self.muon.state_dict(), self.adam.state_dict(), asdict(self.progress)]
        torch.save(states, partial)
        partial.replace(self.state)
        if self.done >= 1 / 3:
            checkpoint.save(self.model, self.folder / "checkpoint", CONFIG)

    def run(self, tokens: Tokens, held_out: Tokens, every: float) -> None:
        """Train until the time is over, saving every `every` seconds."""
        started, saved = time.monotonic() - self.progress.seconds, time.monotonic()
        losses: list[float] = []
        while self.done < 1:
            losses.append(self.step(tokens))
            self.progress.seconds = time.monotonic() - started
            if self.progress.step % 20 == 0:
                self.tell(losses)
                losses.clear()
            if time.monotonic() - saved > every or self.done >= 1:
                self.save()
                saved = time.monotonic()
                loss = held_out_loss(self.model, held_out)
                print(f"held out: {loss:.3f} nats a token, perplexity {math.exp(loss):.1f}", flush=True)

    def tell(self, losses: list[float]) -> None:
        """One line of progress."""
        at = self.progress
        left = max(0.0, self.seconds - at.seconds) / 60
        mean = sum(losses) / len(losses)
        print(f"step {at.step}  loss {mean:.3f}  {at.tokens / 1e6:.2f} M tokens  {left:.0f} min left", flush=True)


def main() -> None:
    """Prepare the text, train, say what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--save-every", type=float, default=180, help="seconds between saved states")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    tokens, held_out = prepare(chosen.folder)
    training = Training(chosen.folder, 60 * chosen.minutes, chosen.seed)
    print(f"{sum(p.numel() for p in training.model.parameters()) / 1e6:.1f} million parameters", flush=True)
    training.run(tokens, held_out, chosen.save_every)
    print(f"done: {training.progress.step} steps; the checkpoint lies in {chosen.folder / 'checkpoint'}")


if __name__ == "__main__":
    main()
