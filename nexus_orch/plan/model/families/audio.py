"""Towers for sound of multimodal models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from nexus_orch.plan.model.architecture import Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.families.vision import tower_of


def gemma4(audio: ConfigReader, text_hidden: int) -> Iterator[Parameter]:
    """Gemma 4's conformer: two feed-forward blocks around attention and a convolution, after two convolutions that
    shorten the sound (transformers: models/gemma4)."""
    hidden = audio.integer("hidden_size", default=1024)
    out = audio.integer("output_proj_dims", default=1536)
    given = audio.sequence("subsampling_conv_channels", 2)
    first, second = (int(width) for width in given) if given and all(type(w) is int for w in given) else (128, 32)
    yield Parameter("audio_tower.subsample.conv0", first, 9)
    yield Parameter("audio_tower.subsample.conv1", second, 9 * first)
    yield from blocks.norms(first, ("audio_tower.subsample.norm0",))
    yield from blocks.norms(second, ("audio_tower.subsample.norm1",))
    # 128 mel bands, halved by each of the two convolutions.
    yield Parameter("audio_tower.input_proj", hidden, second * 32)
    block = list(_conformer(audio, hidden))
    yield from tower_of("audio_tower.layers", audio.integer("num_hidden_layers", default=12, maximum=500), iter(block))
    yield Parameter("audio_tower.output_proj.weight", out, hidden)
    yield blocks.vector("audio_tower.output_proj.bias", out)
    yield Parameter("audio_projector", text_hidden, out)


def _conformer(audio: ConfigReader, hidden: int) -> Iterator[Parameter]:
    for name in ("feed_forward1", "feed_forward2"):
        yield from blocks.mlp(hidden, 4 * hidden, gated=False, name=name)
    yield from blocks.column_linear("self_attn.qkv", hidden, 3 * hidden)
    yield from blocks.row_linear("self_attn.post", hidden, hidden)
    yield blocks.replicated_linear("self_attn.relative_k_proj", hidden, hidden)
    yield blocks.vector("self_attn.per_dim_scale", hidden // audio.integer("num_attention_heads", default=8))
    yield from blocks.column_linear("lconv1d.linear_start", hidden, 2 * hidden)
    yield from blocks.row_linear("lconv1d.linear_end", hidden, hidden)
    yield Parameter("lconv1d.depthwise_conv1d", hidden, audio.integer("conv_kernel_size", default=5))
    yield from blocks.norms(hidden, tuple(f"norm{index}" for index in range(9)))


TOWERS: Mapping[str, Callable[[ConfigReader, int], Iterator[Parameter]]] = {"gemma4": gemma4}
"""The tower of each model type. A model type with an audio_config that is not here is planned with a note."""
