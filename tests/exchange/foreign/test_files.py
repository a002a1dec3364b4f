"""docker-compose files, Kubernetes manifests, systemd units, server files and the ancestor's settings."""

from __future__ import annotations

import json

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.ancestor import read_ancestor
from nexus_orch.exchange.foreign.sources import parse_text
from nexus_orch.exchange.start import Published, make_reference
from tests.exchange.reading import BESIDE, read, start_in, starts_in, told

COMPOSE = """
services:
  proxy:
    image: nginx
    ports: ["80:80"]
  llm:
    image: vllm/vllm-openai:${TAG:-v0.11.0}
    command: >
      --model /models/qwen --served-model-name qwen
      --max-model-len 16384 --gpu-memory-utilization 0.85
    environment:
      - HUGGING_FACE_HUB_TOKEN=${HF_TOKEN}
      - VLLM_USE_V1=1
      - PRICE=$$5
    env_file: .env
    ports: ["8080:8000"]
    volumes: ["./models:/models", "hub:/home/app/.cache/huggingface"]
    deploy:
      resources:
        reservations:
          devices: [{driver: nvidia, device_ids: ["0", "3"], capabilities: [gpu]}]
"""


def test_compose_service() -> None:
    start = start_in(COMPOSE, "docker-compose.yml")
    assert start.place == "service llm"
    assert start.argv[:4] == ("--model", "/models/qwen", "--served-model-name", "qwen")
    assert start.container is not None
    assert start.container.image == "vllm/vllm-openai:v0.11.0"
    assert start.container.ports == (Published(8080, 8000),)
    assert start.env == {
        "HUGGING_FACE_HUB_TOKEN": make_reference("HF_TOKEN"),
        "VLLM_USE_V1": "1",
        "PRICE": "$5",
        "CUDA_VISIBLE_DEVICES": "0,3",
    }
    assert start.notes == ("the variables of env_file .env, which was not read",)


def test_compose_becomes_settings_of_the_host() -> None:
    imported = read(COMPOSE, "0.10.2", "docker-compose.yml")
    assert imported.settings["model.path"] == "/srv/here/models/qwen"
    assert imported.settings["serve.port"] == 8080
    assert imported.settings["serve.host"] == "0.0.0.0"
    assert imported.settings["hardware.gpu.devices"] == [0, 3]
    assert imported.env == {"VLLM_USE_V1": "1", "PRICE": "$5"}
    assert "HUGGING_FACE_HUB_TOKEN" in told(imported, "secret")


@pytest.mark.parametrize(
    "service",
    [
        "{image: my/gpu, command: [vllm, serve, m, --port, '1']}",
        "{image: my/gpu, command: vllm serve m --port 1}",
        "{image: my/gpu, entrypoint: [vllm, serve], command: [m, --port, 1]}",
        "{image: my/gpu, command: bash -c 'vllm serve m --port 1'}",
        "{image: my/vllm, command: m --port 1}",
        "{build: ., entrypoint: python3 -m vllm.entrypoints.openai.api_server, command: m --port 1}",
    ],
)
def test_the_ways_to_write_a_service(service: str) -> None:
    assert start_in(f"services:\n  a: {service}\n", "compose.yaml").argv == ("m", "--port", "1")


MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: llm}
spec: {ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  template:
    spec:
      volumes:
        - {name: models, hostPath: {path: /mnt/models}}
        - {name: shm, emptyDir: {medium: Memory}}
      initContainers: [{name: fetch, image: busybox, command: [sh, -c, "echo vllm serve"]}]
      containers:
        - name: vllm
          image: vllm/vllm-openai:v0.8.5
          command: ["/bin/sh", "-c"]
          args: ["vllm serve /models/m --max-model-len $(CONTEXT) --trust-remote-code"]
          env:
            - {name: CONTEXT, value: "4096"}
            - name: VLLM_API_KEY
              valueFrom: {secretKeyRef: {name: keys, key: LLM_KEY}}
            - name: HF_TOKEN
              valueFrom: {secretKeyRef: {name: keys, key: token}}
          volumeMounts: [{name: models, mountPath: /models}]
"""


def test_kubernetes_container() -> None:
    start = start_in(MANIFEST, "deployment.yaml")
    assert start.place == "Deployment llm, container vllm"
    assert start.argv == ("/models/m", "--max-model-len", "4096", "--trust-remote-code")
    imported = read(MANIFEST, "0.8.5.post1", "deployment.yaml")
    assert imported.settings["model.path"] == "/mnt/models/m"
    assert imported.settings["model.served_name"] == "/models/m"
    assert imported.settings["serve.api_key_env"] == "LLM_KEY"
    assert imported.settings["model.trust_remote_code"] is True


UNIT = """
[Unit]
Description=A model
[Service]
User=llm
Environment="HF_HOME=/data/hub" VLLM_LOGGING_LEVEL=INFO
Environment=LIMIT=8192
EnvironmentFile=-/etc/llm.env
ExecStart=/opt/vllm/bin/vllm serve org/model \\
  # a comment inside
  --max-model-len ${LIMIT} \\
  --served-model-name "my model" --chat-template "a\\tb 100%% $$5"
Restart=always
[Install]
WantedBy=multi-user.target
"""


def test_systemd_unit() -> None:
    start = start_in(UNIT, "vllm.service")
    assert start.argv == (
        *("org/model", "--max-model-len", "8192", "--served-model-name", "my model"),
        *("--chat-template", "a\tb 100% $5"),
    )
    assert start.env == {"HF_HOME": "/data/hub", "VLLM_LOGGING_LEVEL": "INFO", "LIMIT": "8192"}
    assert start.notes == ("the variables of EnvironmentFile /etc/llm.env, which was not read",)


def test_a_file_for_the_server_itself() -> None:
    text = "model: org/model\ntensor-parallel-size: 2\nenforce_eager: true\nlora-modules: [a=b, c=d]\nport: 9000\n"
    imported = read(text, name="serve.yaml")
    assert imported.settings["model.path"] == "org/model"
    assert imported.settings["serve.tensor_parallel"] == 2
    assert imported.settings["memory.enforce_eager"] is True
    assert imported.settings["model.lora.modules"] == ["a=b", "c=d"]


ANCESTOR = {
    "model_path": "D:\\models\\Qwen",
    "ip": "0.0.0.0",
    "port": "8000",
    "gpu_count": "2",
    "mem_ratio": "85",
    "max_tokens": 4096,
    "max_model_len": 8192,
    "kv_dtype": "float32",
    "block_size": 16,
    "max_blocks": "",
    "calculate_scales": False,
    "enable_memory_offload": True,
    "memory_channels": 8,
    "memory_offload_ratio": 60,
    "reserved_memory": 20,
    "advanced_cache_size": 2,
}


def test_settings_of_the_ancestor() -> None:
    content = parse_text(json.dumps(ANCESTOR), "settings.json", BESIDE)
    assert isinstance(content, dict)
    imported = read_ancestor(content, ["memory.preload.channels"], {})
    assert imported.settings == {
        "model.path": "D:\\models\\Qwen",
        "model.served_name": "D:\\models\\Qwen",
        "serve.host": "0.0.0.0",
        "serve.port": 8000,
        "serve.tensor_parallel": 2,
        "memory.gpu_memory_utilization": 0.85,
        "serve.max_num_batched_tokens": 4096,
        "model.max_model_len": 8192,
        "memory.kv_cache.block_size": 16,
    }
    assert imported.groups == {"model": "local", "memory": "hybrid"}
    assert "float32" in told(imported, "no effect")
    left = told(imported, "left out")
    assert all(
        name in left for name in ("memory_channels", "memory_offload_ratio", "reserved_memory", "advanced_cache")
    )


def test_channels_of_the_ancestor_once_they_do_something() -> None:
    imported = read_ancestor(ANCESTOR, [], {})
    assert imported.settings["memory.preload.channels"] == 8


def test_bad_settings_of_the_ancestor_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        read_ancestor({"model_path": "", "port": "eighty", "mem_ratio": "much"}, [], {})
    assert [problem.key for problem in caught.value.problems] == ["model_path", "port", "mem_ratio"]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "a.sh", "a.sh is empty"),
        ("  \n", "a.sh", "a.sh is empty"),
        ("a\x00b", "a.sh", "is no text file"),
        ("services:\n  a: [1\n", "a.yaml", r"no readable YAML in line \d"),
        ("services: {{ .Values.x }}\n  a: b: c", "a.yaml", "helm template"),
        ('{"model_path": ', "a.json", "no readable JSON"),
        ('[Service]\nExecStart=vllm serve "m\n', "a.service", "never closed"),
    ],
)
def test_broken_files(text: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_text(text, name, BESIDE)


@pytest.mark.parametrize(
    "text", ["- 1\n- 2\n", "services: 3\n", "kind: Pod\nmetadata: 3\nspec: {containers: [3]}\n", "a: b\n"]
)
def test_yaml_without_a_server(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml starts no vLLM server"):
        starts_in(text, "a.yaml")
