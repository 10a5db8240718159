"""The Nemotron 3 architecture in plain PyTorch, fast for short sequences on a CPU.

The numbers agree with transformers' NemotronHForCausalLM. Two things differ in form: the state-space layer is computed
in its quadratic form, which wins for a few hundred tokens, and the experts of a layer are stacked in one tensor.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

Config = dict[str, Any]


class RMSNorm(nn.Module):
    """Root mean square norm over the last dimension, in groups of `group` features."""

    def __init__(self, size: int, eps: float, group: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps, self.group = eps, group or size

    def forward(self, x: Tensor) -> Tensor:
        groups = x.view(*x.shape[:-1], -1, self.group)
        return F.rms_norm(groups, (self.group,), eps=self.eps).flatten(-2) * self.weight


class Convolution(nn.Module):
    """A causal convolution of each channel over time."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter((torch.rand(channels, 1, kernel) * 2 - 1) * kernel**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of (batch, time, channels), as a sum of shifted copies, which is quick on a CPU."""
        weight = self.weight.squeeze(1)
        padded = F.pad(x, (0, 0, weight.shape[1] - 1, 0))
        out = padded[:, : x.shape[1]] * weight[:, 0] + self.bias
        for k in range(1, weight.shape[1]):
            out = out + padded[:, k : k + x.shape[1]] * weight[:, k]
        return out


class Mamba(nn.Module):
    """The Mamba-2 mixer."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.head_dim = c["mamba_num_heads"], c["mamba_head_dim"]
        self.groups, self.state = c["n_groups"], c["ssm_state_size"]
        self.inner = self.heads * self.head_dim
        self.conv_dim = self.inner + 2 * self.groups * self.state
        self.step_min = c["time_step_min"]
        self.in_proj = nn.Linear(c["hidden_size"], self.inner + self.conv_dim + self.heads, bias=False)
        self.conv1d = Convolution(self.conv_dim, c["conv_kernel"])
        self.A_log = nn.Parameter(torch.log(torch.arange(1, self.heads + 1).float()))
        self.D = nn.Parameter(torch.ones(self.heads))
        step = torch.exp(torch.linspace(math.log(self.step_min), math.log(c["time_step_max"]), self.heads))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.norm = RMSNorm(self.inner, c["layer_norm_epsilon"], self.inner // self.groups)
        self.out_proj = nn.Linear(self.inner, c["hidden_size"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        gate, xbc, dt = torch.split(self.in_proj(x), [self.inner, self.conv_dim, self.heads], dim=-1)
        size = self.groups * self.state
        values, keys, queries = torch.split(F.silu(self.conv1d(xbc)), [self.inner, size, size], dim=-1)
        step = F.softplus(dt + self.dt_bias).clamp(min=self.step_min).transpose(1, 2)  # (batch, heads, time)
        decay = torch.cumsum(step * -torch.exp(self.A_log)[:, None], dim=-1)
        future = torch.ones(time, time, dtype=torch.bool).triu(1)
        fade = (decay[..., :, None] - decay[..., None, :]).masked_fill(future, -torch.inf).exp() * step[..., None, :]
        keys = keys.view(batch, time, self.groups, self.state).permute(0, 2, 3, 1)
        queries = queries.view(batch, time, self.groups, self.state).transpose(1, 2)
        scores = (queries @ keys).repeat_interleave(self.heads // self.groups, dim=1)
        heads = values.view(batch, time, self.heads, self.head_dim).transpose(1, 2)
        mixed = (scores * fade) @ heads + heads * self.D[:, None, None]
        mixed = mixed.transpose(1, 2).reshape(batch, time, self.inner)
        out: Tensor = self.out_proj(self.norm(mixed * F.silu(gate)))
        return out


class Attention(nn.Module):
    """Causal attention with grouped keys and no position encoding."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.head_dim, hidden = c["head_dim"], c["hidden_size"]
        self.q_proj = nn.Linear(hidden, c["num_attention_heads"] * self.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, c["num_key_value_heads"] * self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, c["num_key_value_heads"] * self.head_dim, bias=False)
        self.o_proj = nn.Linear(c["num_attention_heads"] * self.head_dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


class Router(nn.Module):
    """Chooses experts by sigmoid scores plus a bias; the bias balances the load and does not weigh the experts."""

    e_score_correction_bias: Tensor
    load: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.top_k, self.scale = c["num_experts_per_tok"], c["routed_scaling_factor"]
        self.weight = nn.Parameter(torch.randn(c["n_routed_experts"], c["hidden_size"]) * 0.02)
        self.register_buffer("e_score_correction_bias", torch.zeros(c["n_routed_experts"]))
        self.register_buffer("load", torch.zeros(c["n_routed_experts"]), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = F.linear(x, self.weight).sigmoid()
        chosen = (scores + self.e_score_correction_bias).topk(self.top_k, dim=-1)[1]
        weights = scores.gather(1, chosen)
        if self.training:
            self.load += torch.bincount(chosen.flatten(), minlength=len(self.load))
        return weights / (weights.sum(-1, keepdim=True) + 1e-20) * self.scale, chosen

    def balance(self, rate: float) -> None:
        """Make experts with little load likelier, those with much load less likely."""
        self.e_score_correction_bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


def relu2(x: Tensor) -> Tensor:
    """The squared ReLU of the experts."""
    return F.relu(x).square()


class Experts(nn.Module):
    """The routed experts of a layer, stacked."""

    def __init__(self, count: int, hidden: int, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Parameter(torch.randn(count, width, hidden) * hidden**-0.5)
        self.down_proj = nn.Parameter(torch.zeros(count, hidden, width))

    def forward(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        order = chosen.flatten().argsort(stable=True)
        rows = order // chosen.shape[1]
        counts = torch.bincount(chosen.flatten(), minlength=len(self.up_proj)).tolist()
        parts = torch.split(x[rows], counts)
        out = torch.cat(
            [relu2(p @ up.T) @ down.T for p, up, down in zip(parts, self.up_proj, self.down_proj, strict=True)]
        )
        weighted = (out * weights.flatten()[order][:, None]).to(x.dtype)
        return torch.zeros_like(x).index_add(0, rows, weighted)


class SharedExpert(nn.Module):
    """The expert that sees every token."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(relu2(self.up_proj(x)))
        return out


class MoE(nn.Module):
    """A mixture of experts and the shared expert."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate = Router(c)
        self.experts = Experts(c["n_routed_experts"], c["hidden_size"], c["moe_intermediate_size"])
        self.shared_experts = SharedExpert(c["hidden_size"], c["moe_shared_expert_intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        routed: Tensor = self.experts(flat, *self.gate(flat))
        shared: Tensor = self.shared_experts(x)
        return routed.view_as(x) + shared


MIXERS = {"M": Mamba, "*": Attention, "E": MoE}


class Block(nn.Module):
    """A layer: norm, mixer, residual."""

    def __init__(self, kind: str, c: Config) -> None:
        super().__init__()
        self.norm = RMSNorm(c["hidden_size"], c["layer_norm_epsilon"])
        self.mixer = MIXERS[kind](c)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mixer(self.norm(x))
        return out


class Backbone(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Block(kind, c) for kind in c["hybrid_override_pattern"])
        self.norm_f = RMSNorm(c["hidden_size"], c["layer_norm_epsilon"])

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm_f(x)
        return out


class Nemotron(nn.Module):
    """The language model; parameters carry the names of the Hub's checkpoints, but for the stacked experts.

    While it trains, each token's output row is partly its embedding, turned by `align`: so attention learns once, for all
    tokens, how to copy one, and need not learn it anew for each rare piece of a name. `output_rows` is what is saved.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.backbone = Backbone(c)
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        for name, weight in self.named_parameters():
            if name.endswith(("out_proj.weight", "o_proj.weight", "shared_experts.down_proj.weight")):
                nn.init.zeros_(weight)  # every layer begins as the identity
            elif name.endswith("embeddings.weight"):
                nn.init.normal_(weight, std=0.5)
            elif weight.dim() == 2 and name.endswith("proj.weight"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        nn.init.normal_(self.lm_head.weight, std=0.02)
        self.align = nn.Parameter(nn.init.orthogonal_(torch.empty(c["hidden_size"], c["hidden_size"])) * 0.1)

    def output_rows(self) -> Tensor:
        """The weight of the output layer, (vocab, hidden)."""
        return self.lm_head.weight + self.backbone.embeddings.weight @ self.align

    def forward(self, tokens: Tensor, where: Tensor | None = None) -> Tensor:
        """Logits of (batch, time) tokens, only at the positions that the boolean `where` marks, if given."""
        hidden: Tensor = self.backbone(tokens)
        return F.linear(hidden if where is None else hidden[where], self.output_rows())
