"""Whole commands and files as people have them, written for this test in the style of public documentation and issues:
each becomes a profile that composes, for the release that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.compose.run import compose_run
from tests.exchange.conftest import Told

Nexus = Callable[..., Told]

CORPUS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "two cards": (
        "CUDA_VISIBLE_DEVICES=0,1 vllm serve Qwen/Qwen2.5-32B-Instruct-AWQ --tensor-parallel-size 2 "
        "--gpu-memory-utilization 0.95 --max-model-len 16384 --enable-auto-tool-choice --tool-call-parser hermes",
        {"serve.tensor_parallel": 2, "model.max_model_len": 16384, "hardware.gpu.devices": (0, 1)},
    ),
    "reasoning on eight cards": (
        "vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --trust-remote-code --enable-reasoning "
        "--reasoning-parser deepseek_r1 --max_model_len=65536 --disable-log-requests",
        {"model.trust_remote_code": True, "serve.extra_args": ("--reasoning-parser", "deepseek_r1")},
    ),
    "the module of old days": (
        "python -m vllm.entrypoints.openai.api_server \\\n    --model facebook/opt-125m \\\n    --dtype half \\\n"
        "    --api-key token-abc123 --chat-template ./template.jinja --max-num-seqs 64",
        {"model.dtype": "half", "serve.api_key_env": "NEXUS_API_KEY", "serve.max_num_seqs": 64},
    ),
    "docker with mistral's own formats": (
        "docker run --runtime nvidia --gpus all -v ~/.cache/huggingface:/home/app/.cache/huggingface "
        '--env "HUGGING_FACE_HUB_TOKEN=hf_abcdefgh" -p 8000:8000 --ipc=host vllm/vllm-openai:v0.10.2 '
        "--model mistralai/Mistral-7B-Instruct-v0.3 --tokenizer_mode mistral --config_format mistral",
        {"engine.version": "0.10.2", "serve.port": 8000, "serve.host": "0.0.0.0"},
    ),
    "offload with the V0 engine": (
        "docker run --gpus all -e VLLM_USE_V1=0 vllm/vllm-openai:v0.9.2 --model org/big --cpu-offload-gb 20 \\\n"
        "  --swap-space 8 --enforce-eager --num-scheduler-steps 8 --dtype=half\n",
        {"engine.version": "0.9.2", "memory.cpu_offload_gib": 20, "memory.swap_gib": 8, "memory.strategy": "hybrid"},
    ),
    "a pool of LoRA adapters": (
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --enable-lora --lora-modules sql=/l/sql chat=/l/chat "
        "--max-lora-rank 64 --kv-cache-dtype fp8 --port=9001",
        {"memory.kv_cache.dtype": "fp8", "serve.port": 9001},
    ),
    "speculation as JSON": (
        'vllm serve org/m --speculative-config \'{"method": "ngram", "num_speculative_tokens": 3}\' -O3 --seed 1',
        {
            "serve.speculative.method": "ngram",
            "serve.speculative.num_speculative_tokens": 3,
            "serve.extra_args": ("-O3", "--seed", "1"),
        },
    ),
    "a server of the CPU": (
        "VLLM_CPU_KVCACHE_SPACE=40 VLLM_CPU_OMP_THREADS_BIND=0-29 vllm serve org/m --dtype bfloat16",
        {"hardware.gpu.count": 0, "model.dtype": "bfloat16"},
    ),
    "a list of names and a log": (
        "nohup vllm serve /srv/models/m --served-model-name m m-latest --host :: --uvicorn-log-level warning "
        "--max-num-batched-tokens 8192 > /var/log/vllm.log 2>&1 &",
        {"model.path": "/srv/models/m", "model.served_name": "m", "serve.host": "::"},
    ),
    "compose with a folder of models": (
        "services:\n  vllm:\n    image: vllm/vllm-openai:v0.11.2\n    ports: ['127.0.0.1:8080:8000']\n"
        "    volumes: ['/srv/models:/models:ro']\n    environment: {VLLM_API_KEY: '${KEY}'}\n"
        "    command: --model /models/m --served-model-name m --max-model-len 32768 --enable-prefix-caching\n",
        {"model.path": "/srv/models/m", "serve.port": 8080, "serve.host": "127.0.0.1", "serve.api_key_env": "KEY"},
    ),
}


@pytest.mark.parametrize("name", CORPUS)
def test_the_profile_says_what_the_command_says(nexus: Nexus, tmp_path: Path, name: str) -> None:
    text, expected = CORPUS[name]
    file, lab = tmp_path / "source", tmp_path / "lab"
    file.write_text(text)
    told = nexus("import", "--project", str(lab), "--name", "it", str(file))
    assert told.rc == 0, told.err
    spec = compose_run(["profile=it"], project=lab)
    assert {key: spec.get(key) for key in expected} == expected
    profile = (lab / "conf" / "profile" / "it.yaml").read_text()
    assert not any(secret in profile + told.err for secret in ("token-abc123", "hf_abcdefgh"))
