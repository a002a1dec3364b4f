"""Kinds of refusals, of broken texts and of requests, each by a short log."""

from __future__ import annotations

import pytest

from tests.judge.kinds import CORE, HEAD, SYMPTOM, Kind, check, frame

API = "(APIServer pid=5) "
UP = (f"{API}INFO:     Application startup complete.", f'{API}INFO:     192.0.2.7:1 - "POST /v1/completions" 200 OK')
VALIDATION = f"{API}pydantic_core._pydantic_core.ValidationError: 1 validation error for"
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 80.00 MiB. GPU 0 has a total capacity of 79.1 GiB"

KINDS = {
    "a field of the checkpoint that is too new": Kind(
        (
            f"{VALIDATION} VllmConfig",
            f"{API}scale_dtype",
            f"{API}  Extra inputs are not permitted [type=extra_forbidden, input_value=None, input_type=NoneType]",
        ),
        "checkpoint_mismatch",
        ("scale_dtype",),
        ("newer engine.version",),
    ),
    "a model class that could not be imported": Kind(
        (
            f"{VALIDATION} ModelConfig",
            f"{API}  Value error, Model architectures ['X'] failed to be inspected. [type=v]",
        ),
        "unknown",
        ("failed to be inspected",),
        ("first error above",),
        ("refused",),
    ),
    "an operation of a quantization that this build lacks": Kind(
        (f"{CORE}AttributeError: '_OpNamespace' '_C' object has no attribute 'gptq_gemm'", SYMPTOM),
        "unsupported_quantization",
        says=("gptq_gemm", "another quantization"),
        never=("reinstall",),
    ),
    "a value that the message corrects": Kind(
        (f"{CORE}ValueError: backend='x' is not supported for this. Expected one of ['a', 'b'].", SYMPTOM),
        "unrecognized_argument",
        says=("['a', 'b']",),
    ),
    "two settings that exclude each other": Kind(
        (f"{CORE}ValueError: Custom things are not supported when speculative decoding is enabled.", SYMPTOM),
        "unrecognized_argument",
        says=("do not go together", "speculative decoding"),
    ),
    "two packages that exclude each other are no settings": Kind(
        (f"{CORE}RuntimeError: this extension is not compatible with torch 2.9", SYMPTOM),
        "unknown",
        ("torch 2.9",),
    ),
    "a connector without its package": Kind(
        (f"{CORE}RuntimeError: NIXL is not available", SYMPTOM),
        "broken_install",
        says=("package nixl",),
        never=("network",),
    ),
    "a library that knows the card not": Kind(
        ("rocBLAS error: Cannot read /opt/x/TensileLibrary.dat: Illegal seek for GPU arch : gfx1150", SYMPTOM),
        "driver_mismatch",
        ("gfx1150",),
        ("HSA_OVERRIDE_GFX_VERSION",),
    ),
    "a toolkit older than the card": Kind(
        (f"{CORE}RuntimeError: FlashInfer requires GPUs with sm75 or higher", SYMPTOM),
        "kernel_build_failed",
        says=("CUDA toolkit", "VLLM_USE_FLASHINFER_SAMPLER=0"),
    ),
    "offline as it was told to be": Kind(
        (f"{API}huggingface_hub.errors.LocalEntryNotFoundError: no folder, and outgoing traffic has been disabled.",),
        "model_not_found",
        says=("HF_HUB_OFFLINE",),
        never=("HF_TOKEN",),
    ),
    "the engine itself holds the memory": Kind(
        (f"{CORE}{OOM} of which 60.69 MiB is free. Process 691170 has 78.65 GiB memory in use. Of the allocated",),
        "weights_oom",
        never=("691170",),
    ),
    "two processes hold the memory": Kind(
        (
            f"{CORE}{OOM} of which 60.69 MiB is free. Process 7 has 38.60 GiB memory in use. Process 8 has 39.10 GiB "
            "memory in use. Of the allocated memory 38.10 GiB is allocated by PyTorch",
        ),
        "memory_busy",
        says=("7: 38.60 GiB", "8: 39.10 GiB"),
    ),
    "a graph for other inputs is a guess": Kind(
        (
            *frame("torch_compile_cache/x.py", "a, b = args"),
            f"{CORE}ValueError: too many values to unpack (expected 2)",
        ),
        "unknown",
        says=("cache of another build",),
    ),
    "cut before the exception": Kind(
        (HEAD, f'{CORE}  File "/opt/x.py", line 3, in f', f"{CORE}    return self.build()"),
        "unknown",
        ("/opt/x.py",),
        ("middle of a traceback",),
        ("under way",),
    ),
    "an exception of any name below frames without their head": Kind(
        (f'{CORE}  File "/opt/x.py", line 3, in f', f"{CORE}    check()", f"{CORE}acme.exc.Odd: no good"),
        "unknown",
        ("acme.exc.Odd: no good",),
        never=("middle of a traceback",),
    ),
    "lines that lost their ends": Kind(
        (
            f"{CORE}Traceback (most recent call last): {CORE}  File x, line 3, in f {CORE}    run() "
            f"{CORE}StrangeError: no good {CORE}the end {SYMPTOM}",
        ),
        "unknown",
        ("StrangeError: no good",),
        never=("under way",),
    ),
    "a request that quotes a log": Kind(
        (
            *UP,
            "INFO 01-15 09:00:00 [logger.py:4] Received request 7: prompt: 'why ERROR 01-15 09:00:00 [core.py:9] "
            "torch.OutOfMemoryError: CUDA out of memory. ERROR 01-15 09:00:00 [core.py:9] EngineCore failed to start. "
            "ERROR 01-15 09:00:00 [core.py:9] ?'",
        ),
        None,
        says=("nothing to mend",),
    ),
    "an exception in another program's words": Kind(
        ('I0203 1 stub.cc:3] "Failed to start: ValueError: signal only works in main thread', " /vllm/x.py(160): f"),
        "unknown",
        ("ValueError: signal only works",),
        never=("right file",),
    ),
    "a request with too large an image": Kind(
        (*UP, f"{API}ValueError: an image item with length 6105 exceeds the pre-allocated encoder cache size 6084."),
        None,
        says=("larger images",),
        never=("fetch",),
    ),
    "a request with a bad name of a tool call": Kind(
        (*UP, f"{API}ValueError: Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9."),
        None,
        ("Tool call id",),
        ("a request was refused",),
        ("--enable-auto-tool-choice",),
    ),
    "a request for another address": Kind(
        (*UP, f'{API}INFO:     192.0.2.7:1 - "GET /v1/model HTTP/1.1" 404 Not Found'),
        None,
        says=("an address or a model",),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_failure(name: str) -> None:
    check(KINDS[name])
