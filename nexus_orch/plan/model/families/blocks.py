"""Building blocks of decoder layers, as vLLM fuses and shards them, in the order of its `named_parameters`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nexus_orch.plan.model.architecture import AttentionCache, Parameter, Split, StateCache
from nexus_orch.plan.model.config_reader import ConfigReader


def vector(name: str, size: int, split: str = "none") -> Parameter:
    return Parameter(name, size, split="rows" if split == "rows" else "none")


def column_linear(name: str, inputs: int, outputs: int, *, bias: bool = False) -> Iterator[Parameter]:
    """A matrix whose outputs are divided among the ranks (vLLM: ColumnParallelLinear), and its bias."""
    yield Parameter(f"{name}.weight", outputs, inputs, "rows", linear=True)
    if bias:
        yield vector(f"{name}.bias", outputs, "rows")


def row_linear(name: str, inputs: int, outputs: int, *, bias: bool = False) -> Iterator[Parameter]:
    """A matrix whose inputs are divided among the ranks (vLLM: RowParallelLinear); its bias is on every rank."""
    yield Parameter(f"{name}.weight", outputs, inputs, "columns", linear=True)
    if bias:
        yield vector(f"{name}.bias", outputs)


def replicated_linear(name: str, inputs: int, outputs: int, *, linear: bool = True) -> Parameter:
    """A matrix that every rank holds. Routers are not quantized: `linear` False."""
    return Parameter(f"{name}.weight", outputs, inputs, linear=linear)


@dataclass(frozen=True)
class Heads:
    """The shape of an attention layer. `q_width` times the query rows: 2 where the output is gated."""

    hidden: int
    heads: int
    kv_heads: int
    dim: int
    q_width: int = 1
    shared_kv: bool = False
    """Keys and values come from one projection (Gemma 4's global layers)."""

    def cache(self, window: int | None = None) -> AttentionCache:
        return AttentionCache(self.kv_heads, self.dim, self.dim, window)


def read_heads(reader: ConfigReader) -> Heads:
    """The usual fields of an attention layer; head_dim follows from the hidden size where it is not given."""
    hidden = reader.integer("hidden_size")
    heads = reader.integer("num_attention_heads")
    kv_heads = reader.integer("num_key_value_heads", default=heads)
    dim = reader.integer("head_dim", "attention_head_dim", default=max(1, hidden // heads))
    is_latent = reader.config.get("kv_lora_rank") is not None  # its heads have sizes of their own
    if reader.config.get("head_dim") is None and hidden % heads and not is_latent:
        reader.wrong("num_attention_heads", heads, f"does not divide hidden_size = {hidden}")
    if heads % kv_heads:
        reader.wrong("num_key_value_heads", kv_heads, f"does not divide num_attention_heads = {heads}")
    return Heads(hidden, heads, kv_heads, dim)


def attention(shape: Heads, *, qkv_bias: bool = False, o_bias: bool = False, norm: str = "") -> Iterator[Parameter]:
    """Self-attention. `norm`: "head" (one vector of head_dim for Q and K each), "full" (all their heads), or none."""
    q_rows, kv_rows = shape.heads * shape.dim * shape.q_width, (1 if shape.shared_kv else 2) * shape.dim
    name = "self_attn.qkv_proj"
    yield Parameter(
        f"{name}.weight", q_rows, shape.hidden, "rows", kv_heads=shape.kv_heads, kv_head_rows=kv_rows, linear=True
    )
    if qkv_bias:
        yield Parameter(f"{name}.bias", q_rows, 1, "rows", kv_heads=shape.kv_heads, kv_head_rows=kv_rows)
    yield from row_linear("self_attn.o_proj", shape.heads * shape.dim, shape.hidden, bias=o_bias)
    if norm == "head":
        yield vector("self_attn.q_norm", shape.dim)
        yield vector("self_attn.k_norm", shape.dim)
    elif norm == "full":
        yield vector("self_attn.q_norm", shape.heads * shape.dim, "rows")
        yield vector("self_attn.k_norm", shape.kv_heads * shape.dim, "rows")


def mlp(hidden: int, width: int, *, gated: bool = True, bias: bool = False, name: str = "mlp") -> Iterator[Parameter]:
    """A feed-forward block; gated ones fuse gate and up."""
    first = "gate_up_proj" if gated else "up_proj"
    yield from column_linear(f"{name}.{first}", hidden, (2 if gated else 1) * width, bias=bias)
    yield from row_linear(f"{name}.down_proj", width, hidden, bias=bias)


@dataclass(frozen=True)
class Experts:
    """The routed experts of a layer, of `width` each; `latent` is the size they work in when not the hidden one."""

    hidden: int
    width: int
    count: int
    per_token: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    latent: int | None = None


def experts(shape: Experts) -> Iterator[Parameter]:
    """Router and experts (vLLM: FusedMoE's w13_weight and w2_weight)."""
    yield replicated_linear("mlp.gate", shape.hidden, shape.count, linear=False)
    if shape.router_bias:
        yield vector("mlp.gate.bias", shape.count)
    inner, up = shape.latent or shape.hidden, (2 if shape.gated else 1) * shape.width

    def stacked(name: str, rows: int, columns: int, split: Split, *, linear: bool = False) -> Parameter:
        return Parameter(f"mlp.experts.{name}", rows, columns, split, shape.count, shape.per_token, linear=linear)

    yield stacked("w13_weight", up, inner, "rows", linear=True)
    yield stacked("w2_weight", inner, shape.width, "columns", linear=True)
    if shape.bias:
        yield stacked("w13_bias", up, 1, "rows")
        yield stacked("w2_bias", inner, 1, "none")
    if shape.latent is not None:
        yield replicated_linear("mlp.fc1_latent_proj", shape.hidden, shape.latent)
        yield replicated_linear("mlp.fc2_latent_proj", shape.latent, shape.hidden)


def norms(hidden: int, names: Sequence[str] = ("input_layernorm", "post_attention_layernorm")) -> Iterator[Parameter]:
    for name in names:
        yield vector(name, hidden)


@dataclass(frozen=True)
class Mamba2:
    """A Mamba 2 mixer: `heads` of `head_dim`, `groups` of B and C with `state` elements each."""

    hidden: int
    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    conv_bias: bool
    bias: bool
    float32_state: bool = False
    chunk: int = 256

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def conv_width(self) -> int:
        return self.inner + 2 * self.groups * self.state

    def parameters(self) -> Iterator[Parameter]:
        outputs = self.inner + self.conv_width + self.heads
        yield from column_linear("mixer.in_proj", self.hidden, outputs, bias=self.bias)
        yield Parameter("mixer.conv1d.weight", self.conv_width, self.kernel, "rows")
        if self.conv_bias:
            yield vector("mixer.conv1d.bias", self.conv_width, "rows")
        for name in ("A", "D", "dt_bias"):
            yield vector(f"mixer.{name}", self.heads, "rows")
        yield vector("mixer.norm", self.inner, "rows")
        yield from row_linear("mixer.out_proj", self.inner, self.hidden, bias=self.bias)

    def cache(self) -> StateCache:
        """vLLM: layers/mamba/mamba_utils.py, mamba2_state_shape."""
        conv, state = self.conv_width * (self.kernel - 1), self.heads * self.head_dim * self.state
        return StateCache(conv, state, self.float32_state, self.conv_width, self.chunk)


@dataclass(frozen=True)
class GatedDeltaNet:
    """The linear attention of Qwen3-Next and Qwen3.5."""

    hidden: int
    key_heads: int
    key_dim: int
    value_heads: int
    value_dim: int
    kernel: int
    float32_state: bool = False

    def parameters(self) -> Iterator[Parameter]:
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        yield vector("linear_attn.dt_bias", self.value_heads, "rows")
        yield vector("linear_attn.A_log", self.value_heads, "rows")
        yield Parameter("linear_attn.conv1d.weight", 2 * keys + values, self.kernel, "rows")
        yield from column_linear("linear_attn.in_proj_qkvz", self.hidden, 2 * keys + 2 * values)
        yield from column_linear("linear_attn.in_proj_ba", self.hidden, 2 * self.value_heads)
        yield vector("linear_attn.norm", self.value_dim)
        yield from row_linear("linear_attn.out_proj", values, self.hidden)

    def cache(self) -> StateCache:
        """vLLM: mamba_utils.py, gated_delta_net_state_shape."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        width = 2 * keys + values
        return StateCache(width * (self.kernel - 1), values * self.key_dim, self.float32_state, width)
