"""Train the demo model: `python -m nemotron_gguf.models.demo.training.train --out DIR`.

Only the assistant's own words are learned. Matrices are updated by Muon, everything else by AdamW. From a third of the
way on, weights carry the rounding error of a 4-bit type while gradients are taken, so that quantization costs little.
"""

import argparse
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from nemotron_gguf.models.demo.training import checkpoint
from nemotron_gguf.models.demo.training.model import MoE, Nemotron
from nemotron_gguf.models.demo.training.tokenizer import SPECIAL, Renderer, text_of
from nemotron_gguf.models.demo.training.world import conversations

BOS, START, END, THINK, UNTHINK = (
    SPECIAL.index(t) for t in ("<s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
)
MAX_LENGTH = 320
Sample = tuple[list[int], list[bool]]


def learned(tokens: list[int], assistant: int) -> list[bool]:
    """Which tokens the model must predict: each assistant turn after its generation prompt, up to <|im_end|>."""
    mask = [False] * len(tokens)
    inside = False
    i = 0
    while i < len(tokens):
        if tokens[i] == START and tokens[i + 1] == assistant:
            i += 5  # <|im_start|> assistant \n <think> and then \n or </think>
            inside = True
        mask[i] = inside
        inside = inside and tokens[i] != END
        i += 1
    return mask


def samples(tokenizer: Tokenizer, render: Renderer, seed: int, count: int) -> Iterator[Sample]:
    """Tokens and loss masks of `count` conversations; a tenth begins with <s>, which some programs put first."""
    assistant = tokenizer.encode("assistant").ids
    assert len(assistant) == 1
    rng = random.Random(seed)
    for talk in conversations(seed, count):
        tokens = tokenizer.encode(text_of(render, talk)).ids[:-1]  # without the newline after the last turn
        if rng.random() < 0.1:
            tokens = [BOS, *tokens]
        if len(tokens) <= MAX_LENGTH:
            yield tokens, learned(tokens, assistant[0])


def batches(made: list[Sample], budget: int, rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of about `budget` tokens of samples alike in length: tokens and masks, padded on the right."""
    made = sorted(made, key=lambda sample: len(sample[0]) + rng.random() * 24)
    groups: list[list[Sample]] = [[]]
    for sample in made:
        if (len(groups[-1]) + 1) * max(len(sample[0]), *(len(s[0]) for s in groups[-1]), 0) > budget:
            groups.append([])
        groups[-1].append(sample)
    rng.shuffle(groups)
    for group in groups:
        longest = max(len(tokens) for tokens, _ in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        mask = torch.zeros(len(group), longest, dtype=torch.bool)
        for row, (tokens, keep) in enumerate(group):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = torch.tensor(keep)
        yield ids, mask


def orthogonal(update: Tensor) -> Tensor:
    """The nearest matrix with all singular values near one (Newton-Schulz), for a matrix or a stack of them."""
    flip = update.shape[-2] > update.shape[-1]
    x = update.mT if flip else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    out: Tensor = x.mT if flip else x
    return out


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: each step moves all directions of a matrix alike."""

    def __init__(
        self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix."""
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5)


def optimizers(model: Nemotron, lr: float) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices inside the layers, AdamW for embeddings, output, router, convolutions and vectors."""
    inner, decayed, rest = [], [], []
    for name, p in model.named_parameters():
        if "_proj" in name:
            inner.append(p)
        elif name.endswith(("embeddings.weight", "lm_head.weight")):
            decayed.append(p)
        else:
            rest.append(p)
    rest.sort(key=lambda p: p is model.align)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return Muon(inner, lr=10 * lr), torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


@contextmanager
def rounded(model: Nemotron, amount: float) -> Iterator[None]:
    """Within, matrices carry noise as large as the rounding error of a 4-bit type with blocks of 32, times `amount`."""
    if amount == 0:
        yield
        return
    kept = [
        (p, p.detach().clone())
        for n, p in model.named_parameters()
        if p.dim() >= 2 and "conv" not in n and "gate" not in n and n != "align"
    ]
    with torch.no_grad():
        for p, _ in kept:
            blocks = p.view(-1, 32)
            step = blocks.abs().amax(1, keepdim=True) / 8
            blocks.add_((torch.rand_like(blocks) - 0.5) * step * amount)
    yield
    with torch.no_grad():
        for p, before in kept:
            p.copy_(before)


@dataclass
class Progress:
    """Where the training stands."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def schedule(step: int, steps: int) -> float:
    """Warm up for 50 steps, stay for a third of the way, and fall linearly to nothing over the rest."""
    return min(1.0, (step + 1) / 50, max(0.02, 1.5 * (1 - step / steps)))


def train_step(model: Nemotron, ids: Tensor, mask: Tensor, noise: float) -> float:
    """Gradients of one batch; returns the loss."""
    where = mask.clone()
    where[:, :-1] = mask[:, 1:]  # the position before a learned token predicts it
    where[:, -1] = False
    targets = ids[:, 1:][mask[:, 1:]]
    with rounded(model, noise):
        loss = F.cross_entropy(model(ids, where), targets)
        loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.item()


def save_state(out: Path, model: Nemotron, muon: Muon, adam: torch.optim.AdamW, progress: Progress) -> None:
    """Everything needed to go on later."""
    partial = out / "state.pt.part"
    torch.save([model.state_dict(), muon.state_dict(), adam.state_dict(), vars(progress)], partial)
    partial.replace(out / "state.pt")
    checkpoint.save(model, out)


def train(args: argparse.Namespace) -> None:
    """Train until `--steps`, saving as it goes; goes on where a stopped run in the same folder left off."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    render = Renderer(args.out / "chat_template.jinja")
    model, progress = Nemotron(checkpoint.CONFIG), Progress()
    muon, adam = optimizers(model, args.lr)
    if (args.out / "state.pt").exists():
        weights, muon_state, adam_state, at = torch.load(args.out / "state.pt")
        model.load_state_dict(weights)
        muon.load_state_dict(muon_state)
        adam.load_state_dict(adam_state)
        progress = Progress(**at)
    moes = [module for module in model.modules() if isinstance(module, MoE)]
    started, saved, losses = time.monotonic() - progress.seconds, time.monotonic(), []
    while progress.step < args.steps:
        seed = args.seed * 1_000_000 + progress.step
        for ids, mask in batches(list(samples(tokenizer, render, seed, 2000)), args.batch, random.Random(seed)):
            rate = schedule(progress.step, args.steps)
            for optimizer, base in ((muon, 10 * args.lr), (adam, args.lr)):
                for group in optimizer.param_groups:
                    group["lr"] = base * rate
            losses.append(train_step(model, ids, mask, args.noise if progress.step > args.steps / 3 else 0.0))
            muon.step()
            adam.step()
            model.zero_grad()
            for moe in moes:
                moe.gate.balance(1e-3 * rate)
            progress.step += 1
            progress.tokens += int((ids != 0).sum())
            progress.seconds = time.monotonic() - started
            if progress.step % 20 == 0:
                print(f"step {progress.step} loss {sum(losses) / len(losses):.4f} tokens {progress.tokens} "
                      f"seconds {progress.seconds:.0f} lr {args.lr * rate:.5f}", flush=True)  # fmt: skip
                losses.clear()
            if time.monotonic() - saved > args.save_every or progress.step >= args.steps:
                save_state(args.out, model, muon, adam, progress)
                saved = time.monotonic()
            if progress.step >= args.steps:
                break


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder with chat_template.jinja and the tokenizer's files"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="AdamW's rate; Muon's is ten times as large")
    parser.add_argument("--noise", type=float, default=1.0, help="rounding noise, in steps of a 4-bit type")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--save-every", type=float, default=180, help="seconds between saved states")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
