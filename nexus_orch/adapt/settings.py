"""The settings table: what every generation of vLLM has in common. The adapters add what is theirs.

Sources: the options of the known releases (`nexus_orch/data/vllm_flags.json`) and their source files, named with each
rule. What others ask too is a fact of `nexus_orch.releases`; what one setting alone needs stands here.
"""

from __future__ import annotations

from nexus_orch.adapt.lora import LORA
from nexus_orch.adapt.multimodal import MODEL_CONFIG
from nexus_orch.adapt.speculation import SPECULATION
from nexus_orch.adapt.ways import (
    INSTEAD_OF_SWAP,
    NO_SWAP,
    V1_VARIABLE,
    Table,
    Way,
    write_bytes_of_gib,
    write_kv_tiers,
    write_list,
    write_multiple_of,
    write_number,
    write_switch,
    write_whole_gib,
)
from nexus_orch.releases.engine import v0_by_default, v0_on_request
from nexus_orch.releases.host_ram import has_disk_tier, kv_offload_is_broken, pins_under_wsl, prefetches
from nexus_orch.releases.memory import cpu_counts_memory

# Seen on 0.32.0: --cpu-offload-gb is accepted without effect, the prefetch offloader and KV offload end the start.
_CPU_HAS_WEIGHTS_IN_RAM = Way(
    device="cpu",
    silent=(0, 0.0),
    refused="the CPU engine keeps its weights in RAM anyway: offloading them has no effect",
    instead="leave it out, or use a GPU engine",
    cause="offload_unsupported",
)
_CPU_CANNOT_PREFETCH = Way(
    device="cpu",
    silent=(0,),
    refused="the CPU engine cannot prefetch weights",
    instead="leave it out, or use a GPU engine",
    cause="offload_unsupported",
)

_OWN_TYPE = "use auto, which keeps the model's own type"
_INSTEAD_OF_SWAP = f"{INSTEAD_OF_SWAP}, or vLLM before {v0_by_default.before}"

OMP_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"
"""The cores of each rank of the CPU engine: "0-3|4-7" (envs.py, from 0.5.4 on)."""

SETTINGS: Table = {
    "model.dtype": (Way("--dtype", cause="unsupported_dtype"),),
    "model.quantization": (Way("--quantization", cause="unsupported_quantization"),),
    "model.max_model_len": (Way("--max-model-len"),),
    "model.trust_remote_code": (Way("--trust-remote-code", silent=(False,)),),
    "model.served_name": (Way("--served-model-name"),),
    **MODEL_CONFIG,
    **LORA,
    "serve.tensor_parallel": (Way("--tensor-parallel-size"),),
    "serve.pipeline_parallel": (Way("--pipeline-parallel-size"),),
    "serve.pipeline_partition": (
        Way(
            releases="<0.5.4",  # distributed/utils.py: get_pp_indices reads it from 0.5.4 on
            refused="layers cannot be dealt out unevenly before 0.5.4",
            instead="leave it out, or use vLLM 0.5.4 or later",
        ),
        Way(env="VLLM_PP_LAYER_PARTITION", write=write_list),
    ),
    "serve.data_parallel": (
        Way(device="cpu", silent=(1,), refused="engines side by side are not planned for the CPU engine"),
        Way("--data-parallel-size", silent=(1,)),
    ),
    "serve.expert_parallel": (Way("--enable-expert-parallel", silent=(False,)),),
    "serve.prefix_caching": (Way("--enable-prefix-caching"),),
    "hardware.gpu.devices": (Way(env="CUDA_VISIBLE_DEVICES", write=write_list),),
    "hardware.gpu.device_order": (Way(env="CUDA_DEVICE_ORDER"),),
    "memory.gpu_memory_utilization": (
        Way(
            releases=cpu_counts_memory.earlier,
            device="cpu",
            refused=f"the share of memory has no effect on the CPU engine before {cpu_counts_memory.since}",
            instead=f"set memory.kv_cache.size_gib, or use vLLM {cpu_counts_memory.since} or later",
        ),
        Way("--gpu-memory-utilization", write=write_number),
    ),
    "memory.cpu_offload_gib": (
        _CPU_HAS_WEIGHTS_IN_RAM,
        Way(
            "--cpu-offload-gb",
            write=write_number,
            silent=(0, 0.0),
            cause="offload_unsupported",
            unless=("memory.offload_backend", "prefetch"),  # the loader has turned it into groups of layers
        ),
    ),
    "memory.offload_backend": (
        Way(device="cpu", silent=("auto",), refused="the CPU engine has no offload", cause="offload_unsupported"),
        Way(
            releases=prefetches.earlier,
            silent=("auto", "uva"),
            refused=f"UVA is the only offload before {prefetches.since}",
            instead=f"use uva, or vLLM {prefetches.since} or later",
            cause="offload_unsupported",
        ),
        Way("--offload-backend", silent=("auto",)),
    ),
    "memory.prefetch.group_size": (
        _CPU_CANNOT_PREFETCH,
        Way("--offload-group-size", silent=(0,), cause="offload_unsupported"),
    ),
    "memory.prefetch.num_in_group": (
        _CPU_CANNOT_PREFETCH,
        Way("--offload-num-in-group", cause="offload_unsupported"),
    ),
    "memory.prefetch.step": (_CPU_CANNOT_PREFETCH, Way("--offload-prefetch-step", cause="offload_unsupported")),
    "memory.offload_params": (
        Way(
            device="cpu",
            refused="the CPU engine has no offload",
            instead="leave it out, or use a GPU engine",
            cause="offload_unsupported",
        ),
        Way(
            "--cpu-offload-params",  # config/offload.py: whole segments of parameter names
            cause="offload_unsupported",
            unless=("memory.offload_backend", "prefetch"),
        ),
    ),
    "memory.prefetch.params": (_CPU_CANNOT_PREFETCH, Way("--offload-params", cause="offload_unsupported")),
    "memory.kv_offload_gib": (
        Way(
            device="cpu",
            silent=(0, 0.0),
            refused="the CPU engine fails with KV offload: its cache is in RAM anyway",
            instead="raise memory.kv_cache.size_gib",
            cause="offload_unsupported",
        ),
        Way(
            releases=kv_offload_is_broken,
            silent=(0, 0.0),
            refused=f"KV offload is broken before {kv_offload_is_broken.before} (`num_cpu_blocks must be specified`)",
            instead=f"use vLLM {kv_offload_is_broken.before} or later",
            cause="offload_unsupported",
        ),
        Way("--kv-offloading-size", write=write_number, silent=(0, 0.0), cause="offload_unsupported"),
    ),
    "memory.kv_offload_dir": (
        Way(
            device="cpu",
            refused="the CPU engine fails with KV offload: its cache is in RAM anyway",
            instead="raise memory.kv_cache.size_gib",
            cause="offload_unsupported",
        ),
        Way(
            releases=has_disk_tier.earlier,
            refused=f"KV offload has no tier on a disk before {has_disk_tier.since}",
            instead=f"use memory.kv_offload_gib alone, or vLLM {has_disk_tier.since} or later",
            cause="offload_unsupported",
        ),
        Way("--kv-transfer-config", write=write_kv_tiers, cause="offload_unsupported"),
    ),
    "memory.swap_gib": (
        Way("--swap-space", write=write_number, releases=v0_on_request, given=(V1_VARIABLE, "0")),
        Way(
            releases=v0_on_request,
            silent=(0, 0.0),
            refused=NO_SWAP,
            instead=f"{_INSTEAD_OF_SWAP}, or the V0 engine that this release still has: +engine.env.{V1_VARIABLE}=0",
        ),
        Way(silent=(0, 0.0), refused=NO_SWAP, instead=_INSTEAD_OF_SWAP),
    ),
    "memory.pin_host": (
        Way(device="cpu", silent=(True, False)),
        Way(env="VLLM_WSL2_ENABLE_PIN_MEMORY", write=write_switch, releases=pins_under_wsl),
        Way(silent=(True, False)),  # earlier releases pin nothing under WSL, whatever they are told
    ),
    "memory.enforce_eager": (Way("--enforce-eager", silent=(False,)),),
    "memory.kv_cache.dtype": (
        Way(
            values=("float32", "float"),
            refused="no release of vLLM has a float32 KV cache to choose",
            instead="use auto: the cache has the model's own type, which is float32 with model.dtype=float32",
            cause="unsupported_dtype",
        ),
        Way(
            device="cpu",
            values=("bfloat16", "float16"),  # v1/attention/backends/cpu_attn.py: supported_kv_cache_dtypes
            refused="the CPU engine keeps its KV cache in the model's own type or in fp8",
            instead=_OWN_TYPE,
            cause="unsupported_dtype",
        ),
        Way(
            releases=">=0.11.1,<0.21",  # platforms/cpu.py: "doesn't support KV cache quantization fallback to auto"
            device="cpu",
            silent=("auto",),
            refused="before 0.21.0 the CPU engine falls back to the model's own type",
            instead=f"{_OWN_TYPE}, or vLLM 0.21.0 or later",
            cause="unsupported_dtype",
        ),
        Way("--kv-cache-dtype", instead=_OWN_TYPE),
    ),
    "memory.kv_cache.block_size": (
        Way(
            "--block-size",
            write=write_multiple_of(32),
            releases=">=0.11.1",  # platforms/cpu.py: "CPU backend prefers block_size is multiples of 32"
            device="cpu",
            cause="unsupported_block_size",
        ),
        Way(
            "--block-size",
            write=write_multiple_of(16),
            releases=">=0.8",  # v1/attention/backends/flash_attn.py: "Block size must be a multiple of 16."
            device="cuda",
            cause="unsupported_block_size",
        ),
        Way("--block-size", cause="unsupported_block_size"),
    ),
    "memory.kv_cache.max_blocks": (Way("--num-gpu-blocks-override"),),
    "memory.kv_cache.size_gib": (
        Way(
            env="VLLM_CPU_KVCACHE_SPACE",  # platforms/cpu.py, read with int()
            write=write_whole_gib,
            releases=cpu_counts_memory.earlier,
            device="cpu",
        ),
        Way(
            "--kv-cache-memory-bytes",
            write=write_bytes_of_gib,
            device="cpu",
            overridden_by="VLLM_CPU_KVCACHE_SPACE",
        ),
        Way(
            "--kv-cache-memory-bytes",
            write=write_bytes_of_gib,
            instead="use memory.kv_cache.max_blocks or memory.gpu_memory_utilization",
        ),
    ),
    "memory.kv_cache.calculate_scales": (
        Way(
            releases=">=0.28",  # engine/arg_utils.py: deprecated in 0.19, last in 0.27.1
            silent=(False,),
            refused="KV scales are no longer computed (last in 0.27): they come from the checkpoint, else they are 1.0",
            instead="leave it out, use a checkpoint that carries k_scale and v_scale, or vLLM 0.7.3 to 0.27.1",
        ),
        Way("--calculate-kv-scales", silent=(False,)),
    ),
    "serve.cpu_threads_bind": (
        Way(
            device="cuda",
            refused="only the CPU engine binds its ranks to cores",
            instead="leave it out, or hardware=cpu",
            cause="cpu_binding",
        ),
        Way(
            releases="<0.5.4",
            refused="its CPU engine binds no threads to cores",
            instead="leave it out, or use vLLM 0.5.4 or later",
            cause="cpu_binding",
        ),
        Way(env=OMP_VARIABLE),
    ),
    "serve.max_num_seqs": (Way("--max-num-seqs"),),
    "serve.max_num_batched_tokens": (Way("--max-num-batched-tokens"),),
    **SPECULATION,
    "serve.host": (Way("--host"),),
    "serve.port": (Way("--port"),),
}
