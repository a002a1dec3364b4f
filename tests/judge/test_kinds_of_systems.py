"""Kinds of failures below vLLM: native code, cards, libraries of the system, NCCL by what it says."""

from __future__ import annotations

import pytest

from tests.judge.kinds import CORE, SYMPTOM, Kind, check, diagnose, frame

UP = "INFO:     Application startup complete."

KINDS = {
    "a heap that native code damaged": Kind(
        (
            UP,
            "double free or corruption (!prev)",
            "ERROR 01-15 09:00:00 [multiproc_executor.py:2] Worker proc VllmWorker-2 died unexpectedly, shutting down.",
        ),
        "worker_died",
        ("double free",),
        ("native code",),
    ),
    "a processor without the instructions": Kind(
        ("Fatal glibc error: CPU does not support x86-64-v2",),
        "illegal_instruction",
        says=("virtual machine",),
        never=("right file", "model.dtype"),
    ),
    "memory nodes that a container may not move": Kind(
        (f"{CORE}RuntimeError: numa_migrate_pages failed. errno: 1", SYMPTOM),
        "cpu_binding",
        says=("SYS_NICE",),
    ),
    "a library that aborts while the server imports a model": Kind(
        (
            "terminate called after throwing an instance of 'std::bad_array_new_length'",
            "  what():  std::bad_array_new_length",
        ),
        "worker_died",
        ("std::bad_array_new_length",),
        never=("Intel",),
    ),
    "Windows": Kind(
        (
            "Traceback (most recent call last):",
            r'  File "C:\venv\Lib\site-packages\vllm\cli\serve.py", line 8, in <module>',
            "    import uvloop",
            "ModuleNotFoundError: No module named 'uvloop'",
        ),
        "bad_environment",
        says=("WSL2",),
    ),
    "a torch for the CPU": Kind(
        (f"{CORE}AssertionError: Torch not compiled with CUDA enabled", SYMPTOM),
        "broken_install",
        says=("torch for the CPU",),
    ),
    "no card at all": Kind(
        (f"{CORE}RuntimeError: No CUDA GPUs are available", SYMPTOM),
        "not_enough_gpus",
        says=("CUDA_VISIBLE_DEVICES", "container"),
        never=("lower serve.tensor_parallel",),
    ),
    "more ranks than visible cards": Kind(
        (
            f"{CORE}AssertionError: local world size (8) must be less than or equal to the number of "
            "visible devices (4).",
            SYMPTOM,
        ),
        "not_enough_gpus",
        says=("wants 8 cards, vLLM sees 4",),
    ),
    "NCCL used in a forbidden way": Kind(
        (f"{CORE}RuntimeError: NCCL error: invalid usage (run with NCCL_DEBUG=WARN for details)", SYMPTOM),
        "nccl_error",
        says=("the same card",),
        never=("NCCL_P2P_DISABLE",),
    ),
    "NCCL's other rank has gone": Kind(
        (f"{CORE}RuntimeError: NCCL error: remote process exited or there was a network error", SYMPTOM),
        "nccl_error",
        says=("other ranks wrote first",),
        never=("NCCL_P2P_DISABLE",),
    ),
    "a system call under NCCL": Kind(
        (f"{CORE}RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", SYMPTOM),
        "nccl_error",
        says=("/dev/shm", "NCCL_SOCKET_IFNAME"),
        never=("NCCL_P2P_DISABLE",),
    ),
    "weights that cannot be mapped are no shared memory": Kind(
        (f"{CORE}RuntimeError: unable to mmap 1073741824 bytes from file </m/x.bin>: Cannot allocate memory (12)",),
        "host_oom",
        never=("/dev/shm",),
    ),
    "an attention kernel that fails while it serves": Kind(
        (
            UP,
            *frame("vllm/v1/attention/backends/x.py", "buffer = workspace.get(size)"),
            f"{CORE}AssertionError: Workspace is locked but allocation from 'x.py:5:f' requires 96.75 MB, current size "
            "is 48.38 MB. Workspace growth is not allowed after locking.",
        ),
        "unknown",
        says=("96.75 MB", "48.38 MB"),
    ),
    "the batch system's word on memory": Kind(
        (
            "INFO 01-15 09:00:00 [core.py:1] Starting to load model x",
            "slurmstepd: error: Detected 1 oom_kill event in 7.0.",
        ),
        "host_oom",
        ("oom_kill",),
    ),
    "a quantization that the release cannot read": Kind(
        (f"{CORE}NotImplementedError: No compressed-tensors compatible scheme was found.", SYMPTOM),
        "unsupported_quantization",
        says=("newer engine.version",),
    ),
    "an engine that goes on after errors of its own": Kind(
        (UP, "(EngineCore pid=7) ERROR 01-15 09:00:00 [backend_xgrammar.py:9] Failed to advance FSM for request 7"),
        None,
        ("Failed to advance FSM",),
        ("went on",),
        ("nothing to mend",),
    ),
    "a collective that hangs while the server is up": Kind(
        (
            UP,
            "[rank1]:[E205 10:00:00 ProcessGroupNCCL.cpp:632] [Rank 1] Watchdog caught collective operation timeout: x",
            f"{CORE}TimeoutError: RPC call to sample_tokens timed out.",
        ),
        "nccl_error",
        ("Watchdog caught",),
    ),
    "a terminal's record with its escapes spelt out": Kind(
        ("^[[1;36m(EngineCore pid=7)^[[0;0m ERROR 01-15 09:00:00 [core.py:9] StrangeError: no good^M", f"{SYMPTOM}^M"),
        "unknown",
        ("StrangeError: no good",),
    ),
    "Ray's own word on memory": Kind(
        ("(pid=7) Task was killed due to the node running low on memory.", SYMPTOM),
        "host_oom",
        says=("RAY_memory_usage_threshold",),
        never=("dmesg",),
    ),
    "Triton's compiler breaks on a card": Kind(
        ("LLVM ERROR: Cannot select: intrinsic %llvm.nvvm.shfl.sync.bfly.i32", "Aborted (core dumped)", SYMPTOM),
        "driver_mismatch",
        says=("this card",),
        never=("enforce_eager",),
    ),
    "another package wants another vLLM": Kind(
        ("ImportError: cannot import name 'GuidedDecodingParams' from 'vllm.sampling_params' (/opt/x.py)",),
        "broken_install",
        says=("was made for another release",),
        never=("that vLLM wants",),
    ),
    "the server's address is not of this machine": Kind(
        (
            *frame("vllm/entrypoints/openai/api_server.py", "sock.bind(addr)"),
            f"{CORE}OSError: [Errno 99] Cannot assign requested address",
        ),
        "bad_environment",
        says=("serve.host",),
        never=("VLLM_HOST_IP",),
    ),
    "shared memory that is full is no full disk": Kind(
        (f"{CORE}RuntimeError: unable to write to file </torch_4711>: No space left on device (28)", SYMPTOM),
        "shared_memory",
        never=("HF_HOME",),
    ),
    "a container for a card that is not there": Kind(
        ("nvidia-container-cli: device error: GPU-abc: unknown device: unknown.",),
        "cards_lost",
        says=("GPU-abc", "NVIDIA_VISIBLE_DEVICES"),
    ),
    "a shell says that it was told to end": Kind(
        ("INFO 01-15 09:00:00 [core.py:1] Starting to load model x", "Terminated"),
        None,
        says=("told to stop",),
        never=("under way",),
    ),
    "an exception stands before the line that announces it": Kind(
        (
            UP,
            "ERROR 01-15 09:00:00 [serving.py:9] Error in chat completion stream generator.",
            "ERROR 01-15 09:00:00 [serving.py:9] acme.HarmonyError: Unexpected token 200002",
        ),
        None,
        ("Unexpected token",),
        ("request",),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_failure(name: str) -> None:
    check(KINDS[name])


def test_of_a_request_the_exception_is_told_first() -> None:
    kind = KINDS["an exception stands before the line that announces it"]
    assert "HarmonyError" in diagnose(kind.lines).evidence[0]
