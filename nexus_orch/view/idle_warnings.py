"""Warnings of healthy starts that ask nothing of a person: they stand in the log, and are not shown as warnings.

They say what the run itself had set, what vLLM does without anybody's help, or what libraries tell those who develop
them. What costs speed and can be mended (a missing LD_PRELOAD, a low limit of open files) stays a warning.
"""

from __future__ import annotations

# Said for what was set (memory.enforce_eager, model.dtype); vLLM 0.25.1 to 0.33.0, config/vllm.py, config/model.py.
_OURS = (
    "Enforce eager set, disabling",
    "Inductor compilation was disabled by user settings",
    "Casting torch.",
    "Attempted to load weight ",
)
# Choices that vLLM made; config/vllm.py, platforms/cpu.py, v1/executor, fused_moe.
_ITS_OWN = (
    "Model Runner V2 requires Triton; using the V1 model runner instead",
    "Triton is not installed. triton-cpu is expected on x86 CPUs",
    "Reset SSM cache type to ",
    "Default sampling parameters have been overridden by the model's",
    "Using default MoE config. Performance might be sub-optimal",
    "[shutdown] Process manager: force killing",
    "[shutdown] force killing sub process",
    "Triton kernel JIT compilation during inference",
    "NUMA binding: Using MEMBIND policy",
)
# For those who develop vLLM, torch or Python's libraries.
_DEVELOPERS = (
    "FutureWarning: ",
    "DeprecationWarning: ",
    "resource_tracker: There appear to be",
    "destroy_process_group() was not called",
    "import pynvml",
)
_IDLE = (*_OURS, *_ITS_OWN, *_DEVELOPERS)


def is_idle(message: str) -> bool:
    """True for a warning that needs nobody's attention."""
    return any(text in message for text in _IDLE)
