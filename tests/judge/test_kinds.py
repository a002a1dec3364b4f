"""Kinds of failures, each by a short log: the cause, what must be shown beside the exception, what is said and not."""

from __future__ import annotations

import pytest

from tests.judge.kinds import CORE, INFO, SYMPTOM, Kind, check, frame

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {}. GPU 0 has a total capacity of 79.1 GiB"
KINDS = {
    "a message goes on below its exception": Kind(
        (
            *frame("torch/distributed/x.py", "work = group.allreduce([tensor], opts)"),
            f"{CORE}torch.distributed.DistBackendError: NCCL error in: /pytorch/NCCLUtils.cpp:77, system error",
            f"{CORE}ncclSystemError: System call (e.g. socket, malloc) or external library call failed",
            f"{CORE}Last error:",
            f"{CORE}Error while creating shared memory segment /dev/shm/nccl-x (size 9637888)",
            SYMPTOM,
        ),
        "shared_memory",
        ("Last error:", "Error while creating shared memory segment", "DistBackendError"),
    ),
    "an unknown exception of several lines": Kind(
        (*frame("vllm/x.py", "check()"), f"{CORE}StrangeError: no good", f"{CORE}2 of 7 were good", SYMPTOM),
        "unknown",
        ("StrangeError: no good", "2 of 7 were good"),
    ),
    "two paths are refused": Kind(
        (
            "PermissionError: [Errno 13] Permission denied: '/.cache/a'",
            "PermissionError: [Errno 13] Permission denied: '/.triton/b'",
        ),
        "bad_environment",
        ("/.cache/a", "/.triton/b"),
    ),
    "what comes before the reason is shown too": Kind(
        (
            f"{CORE}StrangeError: 1 of 2 has joined",
            "torch.distributed.DistStoreError: Timed out after 61 seconds waiting for clients.",
        ),
        "nccl_error",
        ("1 of 2 has joined", "DistStoreError"),
    ),
    "killed on the way out of an exception": Kind(
        (*frame("vllm/x.py", "check()"), f"{CORE}StrangeError: no good", SYMPTOM, "Killed"),
        "unknown",
        ("StrangeError",),
        never=("RAM",),
    ),
    "killed, and the others complain": Kind(
        (
            f"{CORE}Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.",
            "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [192.0.2.7]:29500",
        ),
        "host_oom",
        ("exit code: -9",),
    ),
    "a CUDA library of another major version": Kind(
        ("ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",),
        "broken_install",
        ("libcudart.so.12",),
        ("wheel",),
        ("update the driver",),
    ),
    "a library of the driver": Kind(
        ("ImportError: libnvidia-ml.so.1: cannot open shared object file: No such file or directory",),
        "driver_mismatch",
        says=("install the NVIDIA driver",),
    ),
    "a kernel crashes": Kind(
        (f"{CORE}torch.AcceleratorError: CUDA error: an illegal memory access was encountered",),
        "gpu_fault",
        says=("CUDA_LAUNCH_BLOCKING", "enforce_eager", "Xid"),
        never=("hardware", "reset"),
    ),
    "the draft, by its frames": Kind(
        (
            *frame("vllm/v1/spec_decode/eagle.py", "self.model.load_weights(weights)"),
            f"{CORE}KeyError: 'model.layers.0.fc.weight'",
            SYMPTOM,
        ),
        "checkpoint_mismatch",
        says=("draft",),
    ),
    "the draft, by what was loaded last": Kind(
        (
            f"{INFO}Starting to load model x...",
            f"{INFO}Loading drafter model...",
            f"{CORE}StrangeError: no good",
            SYMPTOM,
        ),
        "unknown",
        says=("draft",),
    ),
    "the draft, by its class": Kind(
        ("ValueError: Model architectures ['LlamaForCausalLMEagle3'] are not supported for now.",),
        "unsupported_architecture",
        says=("draft",),
    ),
    "not the draft": Kind(
        (
            f"{INFO}Loading drafter model...",
            f"{INFO}Model loading took 14.29 GiB and 1.4 seconds",
            f"{CORE}{OOM.format('2.00 GiB')}",
        ),
        "profile_oom",
        never=("draft",),
    ),
    "a compile cache that cannot be read": Kind(
        (*frame("vllm/compilation/caching.py", "pickle.load(f)"), f"{CORE}EOFError: Ran out of input", SYMPTOM),
        "kernel_build_failed",
        says=("torch_compile_cache", "VLLM_DISABLE_COMPILE_CACHE"),
    ),
    "a script without a main part": Kind(
        (
            "Traceback (most recent call last):",
            '  File "<string>", line 1, in <module>',
            "RuntimeError: ",
            "        An attempt has been made to start a new process before the",
            "        current process has finished its bootstrapping phase.",
            "",
            "        This probably means that you are not using fork to start your",
        ),
        "worker_start_method",
        ("bootstrapping phase",),
        ("__main__",),
    ),
    "a value that is none of the choices": Kind(
        ("vllm serve: error: argument --dtype: invalid choice: 'fp8' (choose from auto, half, float16)",),
        "unrecognized_argument",
        says=("choose one of auto, half, float16",),
    ),
    "the tail of a server that died": Kind(
        ("CRITICAL 01-15 09:00:00 [launcher.py:1] MQLLMEngine is already dead, terminating server process",),
        "engine_dead",
        says=("stood above", "kubectl logs --previous"),
    ),
    "one request for more than a card": Kind(
        (f"{INFO}Starting to load model x...", f"{CORE}{OOM.format('192.00 GiB')}"),
        "profile_oom",
        says=("--limit-mm-per-prompt", "max_num_batched_tokens"),
        never=("smaller quantization",),
    ),
    "a wait whose figure grows": Kind(
        tuple(
            f"{INFO[:25]}09:0{minute}:00 [ray_utils.py:228] Waiting for creating a placement group of specs for "
            f"{10 * 2**minute} seconds. specs=[{{'GPU': 1.0}}]. Check `ray status` and `ray list nodes` for resources."
            for minute in range(9)
        ),
        "not_enough_gpus",
        ("placement group",),
        ("ray status",),
    ),
    "an attention kernel that was named": Kind(
        (f"{CORE}ValueError: Selected backend X.FLASHINFER is not valid for this setup. Reason: ['head_size']",),
        "unrecognized_argument",
        says=("FLASHINFER", "head_size", "--attention-backend"),
    ),
    "an attention kernel that cannot": Kind(
        (
            *frame("vllm/v1/attention/backends/flash_attn.py", "assert self.version == 3"),
            f"{CORE}AssertionError: Sinks are only supported in FlashAttention 3",
        ),
        "unsupported_architecture",
        says=("Sinks are only supported", "--attention-backend"),
    ),
    "the server's own loop ends": Kind(
        (
            "INFO:     Application startup complete.",
            "(APIServer pid=5) ERROR 01-15 09:00:00 [async_llm.py:7] AsyncLLM output_handler failed.",
            "(APIServer pid=5) ERROR 01-15 09:00:00 [async_llm.py:7] StrangeError: no metrics",
            '(APIServer pid=5) INFO:     192.0.2.7:1 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error',
        ),
        "unknown",
        ("StrangeError",),
        never=("nothing to mend",),
    ),
    "an engine that goes on": Kind(
        ("INFO:     Application startup complete.", f"{CORE}StrangeError: of one request"),
        None,
        ("StrangeError",),
        never=("nothing to mend",),
    ),
    "the driver was replaced": Kind(
        ("nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown.",),
        "driver_mismatch",
        says=("restart the machine",),
        never=("container toolkit",),
    ),
    "a library of another release, in the official image": Kind(
        (
            *frame("dist-packages/transformers/processing_utils.py", "processor = cls(*args)"),
            f"{CORE}TypeError: XProcessor.__init__() got multiple values for argument 'tokenizer'",
        ),
        "broken_install",
        says=("transformers",),
    ),
    "memory of any accelerator": Kind(
        (
            f"{INFO}Model loading took 14.29 GiB and 1.4 seconds",
            f"{CORE}RuntimeError: NPU out of memory. Tried to allocate 2.00 GiB (NPU 0; 60.97 GiB total capacity)",
        ),
        "profile_oom",
    ),
    "the encoder of images": Kind(
        (
            f"{INFO}Model loading took 14.29 GiB and 1.4 seconds",
            *frame("vllm/model_executor/models/x.py", "return self.visual(pixels)"),
            f"{CORE}{OOM.format('9.00 GiB')}",
        ),
        "profile_oom",
        says=("--limit-mm-per-prompt",),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_failure(name: str) -> None:
    check(KINDS[name])
