"""What says the same as an option in the releases that lack it, beside its other names (`RENAMED` in
`nexus_orch.releases.options`). Data, and the choice among it.

Sources: the options of the known releases (`nexus_orch/data/vllm_flags.json`), the help texts of the releases in which
both the old and the new option stand, and vLLM's own deprecation notes in engine/arg_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.adapt.ways import NO_SWAP
from nexus_orch.types import EngineFacts


@dataclass(frozen=True)
class Substitute:
    """`advice` holds where the engine has the option `needs` (None: everywhere)."""

    advice: str
    needs: str | None = None


def find_substitute(engine: EngineFacts, option: str) -> str | None:
    """What to do instead of giving this engine that option, or None when nothing is known."""
    renamed = engine.option(option)
    if renamed is not None:
        return f"use {renamed.name}"
    for substitute in SUBSTITUTES.get(option, ()):
        if substitute.needs is None or engine.option(substitute.needs) is not None:
            return substitute.advice
    return None


def _use(*options: str) -> tuple[Substitute, ...]:
    return tuple(Substitute(f"use {option}", option.split()[0].partition(".")[0]) for option in options)


def _set(key: str) -> tuple[Substitute, ...]:
    return (Substitute(f"set {key}"),)


_GRAPHS_IN_CONFIG = Substitute(
    """use --compilation-config '{"cudagraph_capture_sizes": [1, 2, 4, 8]}'""", "--compilation-config"
)
_NEVER_NEEDED = (Substitute("leave it out: this release decides it by itself"),)

SUBSTITUTES: dict[str, tuple[Substitute, ...]] = {
    # logs
    "--disable-log-requests": (
        Substitute("leave it out: requests are logged only with --enable-log-requests", "--enable-log-requests"),
    ),
    "--enable-log-requests": (
        Substitute(
            "leave it out: requests are logged unless --disable-log-requests is given", "--disable-log-requests"
        ),
    ),
    # graphs and compilation
    "--cuda-graph-sizes": (
        *_use("--cudagraph-capture-sizes"),
        _GRAPHS_IN_CONFIG,
        *_use("--max-seq-len-to-capture"),
    ),
    "--cudagraph-capture-sizes": (*_use("--cuda-graph-sizes"), _GRAPHS_IN_CONFIG, *_use("--max-seq-len-to-capture")),
    "--max-cudagraph-capture-size": (
        Substitute("use --cuda-graph-sizes with this one size", "--cuda-graph-sizes"),
        _GRAPHS_IN_CONFIG,
        *_use("--max-seq-len-to-capture"),
    ),
    "--max-seq-len-to-capture": (
        Substitute(
            "leave it out: graphs are limited by the size of a batch, --max-cudagraph-capture-size",
            "--max-cudagraph-capture-size",
        ),
    ),
    "--max-context-len-to-capture": _use("--max-cudagraph-capture-size"),
    "-cc": _use("--compilation-config"),
    "--optimization-level": (Substitute("use -O3, the level of compilation in this release", "-O"),),
    # engine and devices
    "--device": (Substitute("leave it out: the build of vLLM decides the device"),),
    "--task": _use("--runner"),
    "--runner": _use("--task"),
    "--worker-use-ray": _use("--distributed-executor-backend ray"),
    "--engine-use-ray": _use("--distributed-executor-backend ray"),
    "--disable-frontend-multiprocessing": _NEVER_NEEDED,
    "--use-v2-block-manager": _NEVER_NEEDED,
    "--disable-async-output-proc": _NEVER_NEEDED,
    "--num-lookahead-slots": _NEVER_NEEDED,
    "--num-scheduler-steps": _NEVER_NEEDED,
    "--multi-step-stream-outputs": _NEVER_NEEDED,
    "--preemption-mode": (Substitute("leave it out: the V1 engine always recomputes"),),
    "--attention-backend": (Substitute("+engine.env.VLLM_ATTENTION_BACKEND=NAME"),),
    # memory
    "--swap-space": (Substitute(f"{NO_SWAP}; use memory.kv_offload_gib", "--kv-offloading-size"),),
    "--kv-offloading-size": (Substitute("set memory.swap_gib", "--swap-space"),),
    "--calculate-kv-scales": (Substitute("leave it out: the scales come from the checkpoint, else they are 1.0"),),
    "--quantization-param-path": _use("--calculate-kv-scales"),
    "--cpu-offload-gb": _set("memory.cpu_offload_gib"),
    "--lora-extra-vocab-size": _NEVER_NEEDED,
    # models
    "--rope-scaling": (
        Substitute("""use --hf-overrides '{"rope_parameters": {...}}'""", "--hf-overrides"),
        Substitute("+model.config.rope_scaling={...}"),
    ),
    "--rope-theta": (Substitute("""use --hf-overrides '{"rope_theta": ...}'""", "--hf-overrides"),),
    "--enable-reasoning": (Substitute("leave it out: --reasoning-parser alone switches it on", "--reasoning-parser"),),
    "--guided-decoding-backend": _use("--structured-outputs-config.backend"),
    "--structured-outputs-config": _use("--guided-decoding-backend"),
    "--disable-mm-preprocessor-cache": _use("--mm-processor-cache-gb 0"),
    "--mm-processor-cache-gb": _use("--disable-mm-preprocessor-cache"),
    "--enable-multimodal-encoder-data-parallel": _use("--mm-encoder-tp-mode data"),
    **{
        f"--{name}": (Substitute("say it in --speculative-config, which takes JSON", "--speculative-config"),)
        for name in (
            "speculative-model",
            "num-speculative-tokens",
            "ngram-prompt-lookup-max",
            "ngram-prompt-lookup-min",
            "speculative-draft-tensor-parallel-size",
            "speculative-max-model-len",
            "speculative-model-quantization",
            "speculative-disable-by-batch-size",
        )
    },
    "--speculative-config": _use("--speculative-model"),
    **{
        f"--{name}": (Substitute("say it in --eplb-config, which takes JSON", "--eplb-config"),)
        for name in ("eplb-log-balancedness", "eplb-step-interval", "eplb-window-size", "num-redundant-experts")
    },
}
"""By the option; the first substitute that the engine can take is told."""
