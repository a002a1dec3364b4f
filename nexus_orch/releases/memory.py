"""How memory is accounted for: the budget, the profile, CUDA graphs, the KV cache."""

from __future__ import annotations

from nexus_orch.releases.fact import Fact

# The budget

takes_92_percent = Fact(
    "gpu_memory_utilization is 0.92 by default, before 0.9",
    since="0.20.0",
    source="config/cache.py",
)
cpu_counts_memory = Fact(
    "the CPU engine takes gpu_memory_utilization and kv_cache_memory_bytes; before, VLLM_CPU_KVCACHE_SPACE alone",
    since="0.20.0",
    source="v1/worker/cpu_worker.py; platforms/cpu.py",
)
takes_largest_batches = Fact(
    "cards of 160 GiB and more take 16,384 tokens at once by default, and data-center Blackwell captures graphs of up "
    "to 1,024",
    since="0.28.0",
    source="engine/arg_utils.py: get_batch_defaults; config/vllm.py: _set_cudagraph_sizes",
)

# The profile

compares_free_memory = Fact(
    "all that is taken when the profile is over counts against the KV cache, whoever took it; before, PyTorch's peak "
    "and what lies outside PyTorch",
    since="0.27.0",
    source="utils/mem_utils.py: memory_profiling, total_consumed",
)
makes_handles_first = Fact(
    "the handles of cuBLAS and their workspace are made before free memory is looked at",
    since="0.33.0",
    source="v1/worker/gpu_worker.py: init_device",
)
is_little_known = Fact(
    "two launches are known of these releases, and both had less room for the KV cache than their rules say",
    before="0.6.0",
    source="measured: DeepSeek-V2-Lite on an A100 with 0.5.0, a 6.7B model on two T4 with 0.4.3",
)
profiles_towers = Fact(
    "the vision tower is run on as many tokens of images as a batch holds while memory is profiled",
    since="0.8.0",
    source="v1/worker/gpu_model_runner.py: profile_run, MultiModalBudget",
)
skips_unused_towers = Fact(
    "towers for pictures and sound are not loaded where none is allowed",
    since="0.15.0",
    source="model_executor/models/interfaces.py: _mark_tower_model",
)
samples_fused = Fact(
    "top-k and top-p are one fused kernel; before, all logits are sorted",
    since="0.17.0",
    source="v1/sample/ops/topk_topp_triton.py",
)
second_runner_profiles_sampler = Fact(
    "the second model runner profiles top-k and top-p; before, it profiles an argmax",
    since="0.33.0",
    source="v1/worker/gpu/model_runner.py: _dummy_sampler_run",
)
runs_torch_2_11 = Fact(
    "torch is 2.11 or later, which does not split the last 2 MiB of a large tensor and times kernels while it compiles",
    since="0.20.0",
    source="the requirements of the wheel; measured on H100 and H200 with 0.25.1, and not seen with 0.17.1",
)

# CUDA graphs

captures_both_kinds = Fact(
    "graphs are captured piecewise and in full",
    since="0.11.0",
    source="config/__init__.py: CUDAGraphMode.FULL_AND_PIECEWISE is the default; in 0.10.2 it is PIECEWISE",
)
captures_wide_steps = Fact(
    "the sizes that are captured go in steps of 16 from 256 on; before, in steps of 8",
    since="0.11.1",
    source="config/vllm.py: _set_cudagraph_sizes",
)
captures_own_sizes = Fact(
    "the largest batch of requests, and of tokens, has a graph of its own where it lies between the steps",
    since="0.29.0",
    source="config/vllm.py: _set_cudagraph_sizes",
)
first_runner_reserves_graphs = Fact(
    "the first model runner keeps the estimated graphs out of the KV cache; before, they come on top of the budget",
    since="0.20.0",
    source="envs.py: VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS is False in 0.19.1 and True in 0.20.0",
)
second_runner_reserves_graphs = Fact(
    "the second model runner keeps the estimated graphs out of the KV cache",
    since="0.29.0",
    source="v1/worker/gpu/model_runner.py: profile_cudagraph_memory, which returns 0 before",
)

# The KV cache

caches_latents = Fact(
    "multi-head latent attention caches one vector for all heads; before, whole heads as wide as the kernels want them",
    since="0.7.1",
    source="attention/backends/triton_mla.py; before, models/deepseek_v2.py pads keys and values to 256",
)
groups_layers = Fact(
    "layers of different kinds get groups of their own in the KV cache; before, all count as full attention",
    since="0.9.1",
    source="v1/core/kv_cache_utils.py: _get_kv_cache_config_uniform_page_size",
)
evens_groups = Fact(
    "kinds of layers that differ by less than half in number are padded to the larger one",
    since="0.12.0",
    source="v1/core/kv_cache_utils.py: max_num_layers",
)
caches_prefixes_of_states = Fact(
    "models whose layers keep a state cache prefixes by default, so that each request holds two states",
    since="0.26.0",
    source="config/model.py: is_prefix_caching_supported; v1/kv_cache_interface.py: MambaSpec, mamba_cache_mode align",
)
keeps_state_of_each_block = Fact(
    "models of Mamba layers that cache prefixes keep a state for each block of a request; later two states",
    before="0.28.0",
    source="model_executor/models/config.py: MambaModelConfig, mamba_cache_mode all",
)
wants_block_for_each_request = Fact(
    "a model whose layers keep a state does not start with full CUDA graphs where max_num_seqs exceeds the blocks of "
    "its KV cache; before, fewer graphs are captured",
    since="0.20.0",
    source="config/compilation.py: exceeds available Mamba cache blocks",
)
counts_batches_in_flight = Fact(
    "layers with a window hold the tokens of each batch that is under way: two, where batches are prepared ahead",
    since="0.26.0",
    source="v1/kv_cache_interface.py: max_in_flight_tokens; config/vllm.py: max_concurrent_batches",
)
keeps_null_block = Fact(
    "one block of the KV cache is kept aside when it is checked what fits",
    since="0.29.0",
    source="v1/core/kv_cache_utils.py: get_kv_cache_configs",
)
weighs_blocks_by_page = Fact(
    "the log's concurrency weighs the blocks of a group of layers by their page; later all blocks count alike",
    before="0.28.0",
    source="v1/core/kv_cache_utils.py: get_max_concurrency_for_kv_cache_config, memory_per_block",
)
tells_tokens_by_concurrency = Fact(
    "the log prints the KV cache as concurrency times max_model_len; before, as blocks over groups",
    since="0.20.1",
    source="v1/core/kv_cache_utils.py: _report_kv_cache_config",
)
