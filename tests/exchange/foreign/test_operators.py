"""Operators and launchers: what they turn into one command of vLLM."""

from __future__ import annotations

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.sources import parse_text
from nexus_orch.exchange.profiles.reading import try_start
from nexus_orch.exchange.start import Beside, Start, reference_of
from nexus_orch.exchange.text.server import parse_image_release
from tests.exchange.reading import reader_of, start_in, starts_in

PAIR = """
kind: ServingRuntime
metadata: {name: mine}
spec:
  containers:
  - name: kserve-container
    image: vllm/vllm-openai:v0.11.2
    command: [python, -m, vllm.entrypoints.openai.api_server]
    args: [--model=/mnt/models, "--served-model-name={{.Name}}", --port=8080]
    env: [{name: A, value: "1"}]
---
kind: InferenceService
metadata: {name: chat}
spec:
  predictor:
    model:
      modelFormat: {name: vLLM}
      runtime: mine
      storageUri: hf://org/m
      args: [--max-model-len=4096]
      resources: {limits: {nvidia.com/gpu: "2"}}
"""


def test_a_runtime_and_its_service_are_one_server() -> None:
    start = start_in(PAIR, "pair.yaml")
    assert start.argv == ("--model=org/m", "--served-model-name=chat", "--port=8080", "--max-model-len=4096")
    assert (start.cards, start.env, start.place) == (2, {"A": "1"}, "InferenceService chat")
    assert start.container is not None
    assert start.container.image == "vllm/vllm-openai:v0.11.2"


def test_an_llm_service_over_machines_says_how_many() -> None:
    start = start_in(
        "kind: LLMInferenceService\nmetadata: {name: q}\nspec:\n  model: {uri: 'hf://org/m'}\n"
        "  parallelism: {data: 16, dataLocal: 8, tensor: 1}\n"
        "  template: {containers: [{name: main, resources: {limits: {nvidia.com/gpu: 8}}}]}\n",
        "q.yaml",
    )
    assert (start.nodes, start.cards) == (2, 8)
    assert start.argv[3:] == ("--data-parallel-size", "16", "--data-parallel-size-local", "8")


CATALOGUE = """
catalog:
  big: {enabled: false, url: "hf://org/big", engine: VLLM}
  mid: {enabled: true, url: "hf://org/mid", engine: VLLM, args: [--max-model-len=8k], resourceProfile: "nvidia-gpu-l:2"}
  tiny: {enabled: true, url: "ollama://tiny", engine: OLlama}
"""


def test_of_a_catalogue_the_enabled_models_count() -> None:
    start = start_in(CATALOGUE, "values.yaml")
    assert start.argv == ("org/mid", "--max-model-len=8k", "--served-model-name", "mid")
    assert start.cards == 2
    assert start.notes == ("the catalogue's other models: big (VLLM, not enabled), tiny (OLlama)",)


RUNTIME = """
kind: VLLMRuntime
metadata: {name: q}
spec:
  model: {modelURL: org/m, enableLoRA: true, enableTool: false, toolCallParser: "", maxModelLen: 4096}
  vllmConfig: {enablePrefixCaching: false, gpuMemoryUtilization: "0.8", maxLoras: 4, v1: true,
    env: [{name: A, value: x}]}
  lmCacheConfig: {enabled: true, cpuOffloadingBufferSize: "15"}
  deploymentConfig: {resources: {gpu: "1"}, replicas: 2, image: {registry: docker.io, name: "lmcache/vllm-openai:x"}}
"""


def test_the_stack_operators_resource_is_read() -> None:
    start = start_in(RUNTIME, "runtime.yaml")
    assert start.argv == (
        *("org/m", "--enable-lora", "--max-model-len", "4096", "--no-enable-prefix-caching"),
        *("--gpu-memory-utilization", "0.8", "--max-loras", "4"),
    )
    assert (start.cards, start.env) == (1, {"A": "x", "VLLM_USE_V1": "1"})
    assert "LMCache with 15 GB of host RAM" in start.notes[0]


def test_the_stacks_v0_is_the_old_engine() -> None:
    start = start_in("servingEngineSpec: {modelSpec: [{name: q, modelURL: org/m, vllmConfig: {v0: '1'}}]}", "v.yaml")
    assert start.env == {"VLLM_USE_V1": "0"}


def test_scripts_in_a_config_map_are_read() -> None:
    text = """
kind: ConfigMap
metadata: {name: scripts}
data: {start.sh: "exec vllm serve $MODEL -tp ${TP:-4}"}
---
kind: Pod
spec:
  containers:
  - image: vllm/vllm-openai:v0.11.2
    command: [bash, /scripts/start.sh]
    env: [{name: MODEL, value: org/m}]
    volumeMounts: [{name: s, mountPath: /scripts}]
  volumes: [{name: s, configMap: {name: scripts}}]
"""
    assert start_in(text, "pod.yaml").argv == ("org/m", "-tp", "4")


def beside_starts(text: str, name: str, files: dict[str, str]) -> list[Start]:
    found = parse_text(text, name, Beside({"PWD": "/srv"}, read=files.get))
    assert isinstance(found, list)
    return found


def test_compose_extends_a_service_of_another_file() -> None:
    base = "services: {b: {image: 'vllm/vllm-openai:v0.11.2', ports: ['8010:8000'], environment: {A: 1, B: 2}}}"
    text = "services: {s: {extends: {file: base.yaml, service: b}, environment: {B: 3}, command: [--model, org/m]}}"
    [start] = beside_starts(text, "compose.yaml", {"base.yaml": base})
    assert (start.argv, start.env) == (("--model", "org/m"), {"A": "1", "B": "3"})
    assert start.container is not None
    assert start.container.ports[0].port == 8010


def test_a_service_that_extends_itself_ends() -> None:
    text = "services: {s: {extends: s, image: 'vllm/vllm-openai:v0.11.2', command: [--model, org/m]}}"
    assert start_in(text, "compose.yaml").argv == ("--model", "org/m")


def test_apptainer_binds_folders_and_sets_variables() -> None:
    start = start_in(
        "apptainer exec --nv --bind /data/m:/model,/tmp --env A=1,B=2 vllm-openai_v0.8.5.sif vllm serve /model\n"
    )
    assert start.env == {"A": "1", "B": "2"}
    assert start.container is not None
    assert ("/data/m", "/model") in start.container.mounts


WORKFLOW = """
env: {MODEL: org/m}
jobs:
  serve:
    env: {PORT: 8011}
    steps:
    - run: pip install vllm==0.11.2
    - run: |
        nohup vllm serve ${{ env.MODEL }} --port $PORT &
"""
PLAYBOOK = """
- hosts: gpu
  vars: {tag: v0.9.2, model: org/m}
  tasks:
  - community.docker.docker_container:
      image: "vllm/vllm-openai:{{ tag }}"
      command: "--model {{ model }} --gpu-memory-utilization {{ share | default(0.9) }}"
      ports: ["8001:8000"]
"""
DSTACK = """
type: service
env: [HF_TOKEN, MODEL=org/m]
commands:
- pip install vllm==0.9.2
- vllm serve $MODEL --tensor-parallel-size $DSTACK_GPUS_NUM
resources: {gpu: 24GB:2}
model: {name: org/m}
"""
PIPELINE = """
variables: {MODEL: org/m}
serve:
  script:
  - export PORT=9
  - vllm serve $MODEL --port $PORT
"""
CHART = """
image:
  repository: vllm/vllm-openai
  tag: v0.9.2
  command: [vllm, serve, org/m]
"""


@pytest.mark.parametrize(
    ("text", "argv", "release"),
    [
        (WORKFLOW, ("org/m", "--port", "8011"), "0.11.2"),
        (PLAYBOOK, ("--model", "org/m", "--gpu-memory-utilization", "0.9"), None),
        (DSTACK, ("org/m", "--tensor-parallel-size", "2"), "0.9.2"),
        (PIPELINE, ("org/m", "--port", "9"), None),
        (CHART, ("org/m",), None),
    ],
)
def test_a_file_gives_its_own_variables_to_its_commands(text: str, argv: tuple[str, ...], release: str | None) -> None:
    [start] = starts_in(text, "file.yaml")
    assert (start.argv, start.release) == (argv, release)
    if text in (PLAYBOOK, CHART):
        assert start.container is not None
        assert start.container.image == "vllm/vllm-openai:v0.9.2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trl vllm-serve --model org/m\n", "starts TRL's own server"),
        ("docker run nvcr.io/nim/meta/m:latest --max-model-len 1\n", "starts an NVIDIA NIM container"),
        ("FROM runpod/worker-v1-vllm:stable\nENV MODEL_NAME=org/m\n", "starts RunPod's worker"),
        ("python3 -m dynamo.vllm --model org/m\n", "starts NVIDIA Dynamo"),
        ('job "vllm" {\n  group "a" {}\n}\n', "is a Nomad job"),
        ("services:\n  a:\n    build: .\n    environment: {TENSOR: 1}\n", "a service is built from a Dockerfile"),
    ],
)
def test_what_starts_vllm_in_its_own_way_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_text(text, "file", Beside())


def test_what_another_tool_fills_in_before_kubernetes_is_not_known() -> None:
    pod = "kind: Pod\nspec: {containers: [{image: vllm/vllm-openai, args: ['--model', '${MODEL}']}]}\n"
    assert reference_of(start_in(pod, "pod.yaml").argv[1]) == "MODEL"


def test_an_image_that_counts_by_months_names_no_release() -> None:
    assert parse_image_release("nvcr.io/nvidia/vllm:26.05-py3") is None
    assert parse_image_release("lmcache/vllm-openai:2025-05-27-v1") is None
    assert parse_image_release("vllm/vllm-openai:v0.10.1.1") == "0.10.1.1"


@pytest.mark.parametrize(
    "block",
    [
        "``` powershell\n$M='org/m'\ndocker run `\n  vllm/vllm-openai:v0.11.2 `\n  --model $M\n```\n",
        "```yaml\nservices: {v: {image: 'vllm/vllm-openai:v0.11.2', command: '--model org/m'}}\n```\n",
    ],
)
def test_a_document_may_show_another_shell_or_a_file(block: str) -> None:
    assert start_in(f"# Serve\n\n{block}", "README.md").argv == ("--model", "org/m")


def test_a_jinja_template_is_named() -> None:
    with pytest.raises(ConfigError, match="is a Jinja template"):
        parse_text("{% block command %}\ndocker run {{ image }}\n{% endblock %}\n", "start.sh", Beside())


def test_a_folder_that_is_a_placeholder_is_no_model() -> None:
    text = "services: {v: {image: vllm/vllm-openai, volumes: ['/path/to/models:/m'], command: '--model /m/a'}}"
    imported = try_start(start_in(text, "compose.yaml"), reader_of("0.33.0"))
    assert imported.problems[0].message.startswith("/path/to/models/a, which is /m/a inside the container, is a placeh")
