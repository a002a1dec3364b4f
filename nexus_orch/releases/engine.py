"""Generations of the engine: V0 and V1, the two model runners of V1, and how the server is started."""

from __future__ import annotations

from nexus_orch.releases.fact import Fact

serves_by_command = Fact(
    "`vllm serve MODEL` starts the server; before, a module is run that takes --model",
    since="0.5.2",
    source="scripts.py: the subcommand `serve`",
)
v0_by_default = Fact(
    "the V0 engine runs, the only one with a swap space for preempted requests",
    before="0.8.0",
    source="envs.py: VLLM_USE_V1 is False in 0.7.3 and True in 0.8.0",
)
v0_on_request = Fact(
    "VLLM_USE_V1=0 brings the V0 engine back",
    since="0.8.0",
    before="0.11.0",
    source="engine/llm_engine.py: the V0 engine, there in 0.10.2, an alias of the V1 engine in 0.11.0",
)
v1_only = Fact("there is no V0 engine", since="0.11.0", source="as before")

# The second model runner (v1/worker/gpu/model_runner.py). VLLM_USE_V2_MODEL_RUNNER=1 asks for it from 0.12.0 on.

chooses_second_runner = Fact(
    "the release itself chooses the second model runner for some models",
    since="0.22.0",
    source="config/vllm.py: use_v2_model_runner; envs.py: VLLM_USE_V2_MODEL_RUNNER is False until 0.21.0, then None",
)
second_runner_for_dense = Fact(
    "the second model runner is chosen for all models without experts or states",
    since="0.25.0",
    source="config/vllm.py: _is_default_v2_model_runner_model, `or not model_config.is_moe`",
)
second_runner_for_all = Fact(
    "the second model runner is chosen for all models",
    since="0.29.0",
    source="config/vllm.py: use_v2_model_runner without a list of models",
)
_second_runner_unquantized = Fact(
    "the second model runner is chosen for unquantized models only",
    since="0.22.0",
    before="0.24.0",
    source="config/vllm.py: _is_default_v2_model_runner_model, `not model_config.is_quantized`",
)
_NAMED_MODELS: tuple[tuple[Fact, frozenset[str]], ...] = tuple(
    (Fact("", since, before, "config/vllm.py: DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES"), frozenset(models.split()))
    for since, before, models in (
        ("0.22.0", "0.23.0", "qwen3"),
        ("0.23.0", "0.24.0", "qwen3 llama mistral"),
        ("0.24.0", "0.25.0", "qwen3 llama mistral deepseek_v2 qwen2_moe granitemoe"),
        ("0.25.0", None, "deepseek_v2 qwen2_moe granitemoe"),
    )
)
"""The types of model that a release names, among those that can be planned."""


def has_second_runner(version: str, model_type: str, *, is_moe: bool, is_hybrid: bool, is_quantized: bool) -> bool:
    """Whether this release runs a model on its second model runner when VLLM_USE_V2_MODEL_RUNNER is not set."""
    if second_runner_for_all(version):
        return True
    is_named = any(fact(version) and model_type in models for fact, models in _NAMED_MODELS)
    if second_runner_for_dense(version):
        return is_named or not (is_moe or is_hybrid)
    return is_named and not (is_quantized and _second_runner_unquantized(version))


second_runner_ignores_weights = Fact(
    "the second model runner ignores the offloading of weights without a word",
    since="0.17.0",
    before="0.28.0",
    source="v1/worker/gpu/model_runner.py: no create_offloader() until 0.28.0, whereas v1/worker/gpu_model_runner.py "
    "has it from 0.17.0 on; before, the models themselves offload under either runner (models/utils.py: "
    "maybe_offload_to_cpu). On an H100 with 0.25.1 both mechanisms loaded all weights on the card",
)
second_runner_needs_pinning = Fact(
    "the second model runner needs pinned memory, which WSL does not give",
    since="0.12.0",
    before="0.24.0",
    source="v1/worker/gpu: is_uva_available() or an error; the variable that allows it under WSL came with 0.24.0",
)
