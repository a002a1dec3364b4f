"""Models: formats of their files, types of their KV cache, their layers over pipeline stages."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_orch.releases.fact import Fact

reads_gguf_by_plugin = Fact(
    "GGUF is read with a plugin only",
    since="0.24.0",
    source='model_executor/layers/quantization/__init__.py: "gguf" is there in 0.23.0',
)
chooses_load_strategy = Fact(
    "how checkpoint files are read can be chosen",
    since="0.10.2",
    source="model_executor/model_loader/weight_utils.py: safetensors_load_strategy",
)
narrow_cache_on_all_cards = Fact(
    "a KV cache in 8 bits is read on every card that computes in 8 bits; before, FlashAttention was taken by default "
    "and refused it on cards before Hopper",
    since="0.11.1",
    source="platforms/cuda.py and attention/backends/abstract.py: supports_kv_cache_dtype",
)
brings_triton_kernels = Fact(
    "the wheel holds the Triton kernels for MXFP4 experts; before, Hopper took Marlin's unless they were installed "
    "beside it",
    since="0.12.0",
    source="third_party/triton_kernels; utils/import_utils.py: has_triton_kernels",
)
packs_mxfp4_for_marlin = Fact(
    "MXFP4 experts are packed for Marlin's kernels on Hopper by default; before, for Triton's, and afterwards another "
    "module chooses (layers/fused_moe/oracle/mxfp4.py)",
    since="0.14.0",
    before="0.19.0",
    source="model_executor/layers/quantization/mxfp4.py: get_mxfp4_backend, VLLM_MXFP4_USE_MARLIN is False",
)
layers_rest_in_the_middle = Fact(
    "layers that do not divide go to the stages before the last one; before, to the last one",
    since="0.8.0",
    source="distributed/utils.py: get_pp_indices",
)
converts_to_mxfp4 = Fact(
    "--quantization mxfp4 converts a plain checkpoint; before, it is for checkpoints in that format alone",
    since="0.28.0",
    source="config/quantization.py: _ONLINE_SHORTHANDS",
)
takes_rope_scaling = Fact(
    "--rope-scaling is an option of its own; later it is a part of --hf-overrides",
    before="0.11.0",
    source="engine/arg_utils.py: --rope-scaling, there in 0.10.2",
)
joins_rope_parameters = Fact(
    "rope_parameters is the name of rope_scaling in a configuration, whatever the version of transformers",
    since="0.12.0",
    source="transformers_utils/config.py: patch_rope_parameters",
)
takes_limits_as_json = Fact(
    "--limit-mm-per-prompt takes JSON; before, image=4,video=1",
    since="0.8.5",
    source="engine/arg_utils.py: nullable_kvs alone in 0.8.4",
)
serves_language_alone = Fact(
    "--language-model-only leaves out all that is not language",
    since="0.17.0",
    source="config/multimodal.py: language_model_only",
)
OBEYS_CACHE_TYPE: Mapping[str, Fact] = {
    "modelopt": Fact(
        "the KV cache has the type that a checkpoint of ModelOpt asks for",
        since="0.14.0",
        source="utils/torch_utils.py: resolve_kv_cache_dtype_string",
    ),
    "compressed-tensors": Fact(
        "the KV cache has the type that a checkpoint of compressed-tensors asks for",
        since="0.15.0",
        source="attention/layer.py: kv_cache_scheme",
    ),
}
"""By the method of quantization."""
