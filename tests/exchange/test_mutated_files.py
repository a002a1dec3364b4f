"""Files that nobody wrote: mutations of those of the field are read, or refused with a sentence."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.sources import parse_command, parse_text
from nexus_orch.exchange.profiles.reading import try_start
from nexus_orch.exchange.start import Beside
from tests.exchange.reading import reader_of

FOLDER = Path(__file__).parents[1] / "data" / "field" / "imports"
CHUNKS, IN_A_CHUNK = 20, 500
"""10,000 files in all."""
MORE = {
    "a.service": "[Service]\nEnvironment=A=1\nExecStart=/bin/sh -c 'vllm serve org/m --port ${A}'\n",
    "a.container": "[Container]\nImage=vllm/vllm-openai:v0.11.2\nExec=--model org/m\nVolume=/a:/b\n",
    "Dockerfile": 'ARG T=v0.9.1\nFROM vllm/vllm-openai:${T}\nENV A=1 B=2\nCMD ["--model", "org/m"]\n',
    "a.md": "# Serve\n\n```bash\n$ vllm serve org/m \\\n  --port 1\n```\n",
    "a.bat": "@echo off\nset M=org/m\nvllm serve %M% ^\n --port 1\n",
    "Makefile": "M ?= org/m\nifdef X\nF := -tp 2\nendif\ns: M = a\ns:\n\t@vllm serve $(M) \\\n\t\t$(if $X,$F)\n",
    "justfile": 'm := "org" / "m"\nserve n="2" *a:\n    vllm serve {{m}} -tp {{n}} {{ env("E", "") }}\n',
    "a.txt": "(v) me@box:~$ vllm serve org/m \\\n> --port 1\nINFO vLLM API server version 0.9.2\n",
    "catalogue.yaml": "catalog:\n  q: {enabled: true, url: 'hf://org/m', engine: VLLM, args: [-tp=2]}\n",
    "runtime.yaml": "kind: VLLMRuntime\nmetadata: {name: q}\nspec:\n  model: {modelURL: org/m, enableLoRA: true}\n"
    "  vllmConfig: {v1: true, extraArgs: [-O3]}\n  lmCacheConfig: {enabled: true}\n",
    "pair.yaml": "kind: ServingRuntime\nmetadata: {name: r}\nspec: {containers: [{name: c, args: [a]}]}\n"
    "---\nkind: InferenceService\nmetadata: {name: q}\nspec:\n  predictor:\n    model: {runtime: r, args: [--x=1]}\n",
    "extends.yaml": "services:\n  b: {image: vllm/vllm-openai, environment: {A: 1}}\n"
    "  s: {extends: {service: b}, command: [--model, org/m]}\n",
    "dstack.yaml": "type: service\nenv: [M=org/m]\ncommands:\n- vllm serve $M -tp $DSTACK_GPUS_NUM\n"
    "resources: {gpu: 24GB:2}\n",
    "flow.yaml": "env: {M: org/m}\njobs:\n  a:\n    steps:\n    - run: vllm serve ${{ env.M }} --port $P\n",
    "play.yaml": "- vars: {m: org/m}\n  tasks:\n  - docker_container:\n"
    "      {image: vllm/vllm-openai, command: '--model {{ m }} -tp {{ n | default(2) }}', ports: ['8:8']}\n",
    "apptainer.sh": "apptainer exec -B /a:/b,/c --env A=1 vllm-openai_v0.8.5.sif vllm serve /b\n",
    "a.json": '{"model_path": "/m", "gpu_count": "2", "mem_ratio": 85}',
    "sky.yaml": "resources: {accelerators: 'H100:8'}\nenvs: {M: org/m}\n"
    "run: |\n  vllm serve $M -tp $SKYPILOT_NUM_GPUS_PER_NODE\n",
    "ray.yaml": "applications:\n- args:\n    llm_configs:\n"
    "    - model_loading_config: {model_id: m, model_source: org/m}\n"
    "      engine_kwargs: {tensor_parallel_size: 2, enable_prefix_caching: false}\n",
    "kserve.yaml": "kind: InferenceService\nmetadata: {name: q}\nspec:\n  predictor:\n    model:\n"
    "      modelFormat: {name: huggingface}\n      args: [--model_name=q, --model_id=org/m, --backend=vllm]\n",
    "llmisvc.yaml": "kind: LLMInferenceService\nmetadata: {name: q}\nspec:\n  model: {uri: 'hf://org/m', name: m}\n"
    "  parallelism: {tensor: 2}\n"
    "  template: {containers: [{name: main, env: [{name: VLLM_ADDITIONAL_ARGS, value: -O3}]}]}\n",
    "kubeai.yaml": "apiVersion: kubeai.org/v1\nkind: Model\nmetadata: {name: q}\n"
    "spec: {url: 'hf://org/m', engine: VLLM, args: [--max-model-len=1k], resourceProfile: 'nvidia-gpu-l4:2'}\n",
}
PIECES = [
    *(
        "$(",
        "${",
        "}",
        ")",
        "((",
        "))",
        "'",
        '"',
        "`",
        "\\",
        "\n",
        "\\\n",
        "<<EOF\n",
        "EOF\n",
        "<x>",
        "...",
        "[[ ",
        " ]]",
    ),
    *(
        "if ",
        "then ",
        "fi\n",
        "for i in ",
        "do ",
        "done\n",
        "case x in ",
        "esac\n",
        "f() {",
        "&",
        "&&",
        "||",
        "|",
        ";;",
    ),
    *(
        "\x00",
        "\x01{A\x02",
        "\ufeff",
        "é",
        "{",
        "[",
        ": ",
        "- ",
        "? ",
        "&a ",
        "*a ",
        "!!binary ",
        "!x ",
        "2026-99-99",
        "~",
    ),
    *(
        "--max-model-len",
        "--model",
        "vllm serve ",
        "docker run ",
        "bash -c ",
        "$@",
        "$1",
        "${A:-",
        "9" * 5000,
        "%",
        "%%",
    ),
    *(
        "null",
        "true",
        "0x1F",
        ".inf",
        "-1",
        "{{ .x }}",
        "${{ x }}",
        "@",
        "exec ",
        "eval ",
        "source ./x.sh\n",
        "%h",
        "$$",
    ),
]


def _sources() -> dict[str, str]:
    files = [file for file in sorted(FOLDER.rglob("*")) if file.suffix in (".sh", ".yaml", ".ps1")]
    return {file.name: file.read_text(encoding="utf-8") for file in files} | MORE


def _mutations(seed: int) -> Iterator[tuple[str, str]]:
    """Names and texts of files: a known one with some pieces put in, taken out, doubled or exchanged."""
    chance, sources = random.Random(seed), _sources()
    names = sorted(sources)
    for _ in range(IN_A_CHUNK):
        name = chance.choice(names)
        text = sources[name]
        for _ in range(chance.randint(1, 6)):
            start = chance.randrange(len(text) + 1)
            end = min(len(text), start + chance.choice((0, 0, 1, 1, 2, 5, 20, 80)))
            new = chance.choice((chance.choice(PIECES), "", text[start:end] * 2, chance.choice(PIECES) * 20))
            text = text[:start] + new + text[end:]
        yield (name if chance.random() < 0.8 else chance.choice(names)), text


@pytest.mark.parametrize("seed", range(CHUNKS))
def test_a_mutated_file_is_read_or_refused(seed: int) -> None:
    reader = reader_of("0.33.0")
    beside = Beside({"HOME": "~", "PWD": "/srv"}, {"A": "b"}, lambda path: "A=1\n" if path == ".env" else None)
    for name, text in _mutations(seed):
        try:
            found = parse_text(text, name, beside)
        except ConfigError as error:
            assert all(problem.message for problem in error.problems)
            continue
        if isinstance(found, list):
            assert found, (name, text)
            for start in found[:2]:
                try_start(start, reader)


def test_mutated_commands_are_read_or_refused() -> None:
    reader = reader_of("0.33.0")
    for _, text in _mutations(CHUNKS):
        words = text.replace("\x00", "").split()[:40]
        try:
            starts = parse_command(["vllm", "serve", *words], Beside())
        except ConfigError:
            continue
        for start in starts[:1]:
            try_start(start, reader)


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve " + "$(" * 3000,
        "vllm serve " + "${A:-" * 3000 + "x" + "}" * 3000,
        "if true; then " * 500 + "vllm serve org/m",
        "{ " * 3000 + "vllm serve org/m",
        "f() { f; }; f; vllm serve org/m",
        "while true; do x=$x$x; done; vllm serve org/m",
        "A=x; " + "A=$A$A; " * 60 + "vllm serve org/m",
        "\n".join(f'if [ -n "$A{i}" ]; then B{i}=1; fi' for i in range(60)) + "\nvllm serve org/m $B1 $B59",
        "\n".join(f"if command -v a{i}; then B=$B{i}; fi" for i in range(60)) + "\nvllm serve org/m $B",
        "vllm serve org/m --port $((" + "(" * 500 + "1" + ")" * 500 + "))",
        "a: &a [1]\n"
        + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{'*' + chr(97 + i)}{(', *' + chr(97 + i)) * 9}]\n" for i in range(12)
        ),
        "kind: X\na: " + "[" * 600 + "]" * 600,
        "kind: X\na: " + "{b: " * 300 + "1" + "}" * 300,
    ],
)
def test_what_grows_without_end_is_given_up(text: str) -> None:
    for name in ("a.sh", "a.yaml", "a.md", "a.ps1"):
        try:
            found = parse_text(text, name, Beside())
        except ConfigError:
            continue
        assert found
