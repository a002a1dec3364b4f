"""A plan as others are to run it: what every exported file says, whatever its format. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexus_orch.contracts import Rendering
from nexus_orch.exchange.text.server import HUB_ID
from nexus_orch.releases.known import release_of
from nexus_orch.types import GIB, Command, EngineFacts, Plan, is_secret_name

IMAGE = "vllm/vllm-openai"
MODELS_FOLDER = "/models"
"""Where a container finds a model that lies in a folder of the host."""
DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
OLD_SERVER = ("python3", "-m", "vllm.entrypoints.openai.api_server")

_READ_BYTES_PER_SECOND = 200e6
"""A slow disk or network drive: what a start period must allow for. An assumption, not a measurement."""
_FETCH_BYTES_PER_SECOND = 25e6
"""A connection of 200 Mbit/s, for models that the first start downloads. An assumption too."""
_ANY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True)
class Deployment:
    """One server. `words` follow the launcher (`serve MODEL --flag ...`); `secret_env` maps variables of the engine to
    those of the user's environment that hold the secrets. `path` are folders that come before PATH where the launcher
    is the engine of this machine: it calls programs of its own environment (ninja)."""

    name: str
    comments: tuple[str, ...]
    launcher: tuple[str, ...]
    path: tuple[str, ...]
    words: tuple[str, ...]
    env: Mapping[str, str]
    secret_env: Mapping[str, str]
    image: str
    gpus: int
    devices: tuple[str, ...]
    model: str
    is_folder: bool
    host: str
    port: int
    host_ram_bytes: int
    start_seconds: int
    stop_seconds: int

    @property
    def label(self) -> str:
        """The name as Kubernetes, systemd and compose take names."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:50].strip("-") or "vllm"

    @property
    def inside_model(self) -> str:
        """The model as a container names it."""
        return f"{MODELS_FOLDER}/{_last_part(self.model)}" if self.is_folder else self.model

    @property
    def container_words(self) -> tuple[str, ...]:
        """The words for a container: it listens on all of its own addresses."""
        words = [
            self.inside_model if word == self.model and index == 1 else word for index, word in enumerate(self.words)
        ]
        if "--host" in words:
            words[words.index("--host") + 1] = _ANY_ADDRESS
        return tuple(words)

    @property
    def container_launcher(self) -> tuple[str, ...]:
        return ("vllm",) if self.words[:1] == ("serve",) else OLD_SERVER

    @property
    def container_env(self) -> dict[str, str]:
        """The variables for a container, whose cards are chosen from outside."""
        return {name: value for name, value in self.env.items() if name != DEVICES_VARIABLE or not self.gpus}

    @property
    def published_host(self) -> str:
        """The host's address that clients use, "" for all of them."""
        return {"localhost": "127.0.0.1", _ANY_ADDRESS: ""}.get(self.host, self.host)


def make_deployment(
    plan: Plan, rendering: Rendering, engine: EngineFacts, installed: Command | None, *, image: str | None = None
) -> Deployment:
    """What is to be run for this plan. `installed` is how the engine of this machine is started, if there is one."""
    spec, settings = plan.spec, plan.settings
    planned = str(settings.get("model.path") or spec.model.path or "")
    model = spec.model.path if spec.model.path and HUB_ID.fullmatch(spec.model.path) else planned
    is_folder = HUB_ID.fullmatch(model) is None
    words = (*rendering.argv[:1], model, *rendering.argv[2:])
    env = {**rendering.env, **spec.engine.env}
    if engine.device == "cpu":
        env["VLLM_TARGET_DEVICE"] = "cpu"
    launcher = () if installed is None else installed.argv[: len(installed.argv) - len(rendering.argv)]
    named = {name: name for name in env if is_secret_name(name)}
    ranks = (settings.get("serve.tensor_parallel") or 1) * (settings.get("serve.pipeline_parallel") or 1)
    return Deployment(
        name=spec.name,
        comments=_render_comments(plan),
        launcher=launcher or (("vllm",) if words[:1] == ("serve",) else OLD_SERVER),
        path=() if installed is None else installed.path,
        words=words,
        env={name: value for name, value in env.items() if name not in named},
        secret_env={**rendering.secret_env, **named},
        image=image or f"{IMAGE}:v{release_of(engine.version)}",
        gpus=0 if engine.device == "cpu" else ranks,
        devices=tuple(filter(None, env.get(DEVICES_VARIABLE, "").split(","))),
        model=model,
        is_folder=is_folder,
        host=str(settings.get("serve.host") or spec.serve.host),
        port=int(settings.get("serve.port") or 8000),
        host_ram_bytes=plan.host.required_bytes,
        start_seconds=_start_seconds(plan, is_folder=is_folder),
        stop_seconds=math.ceil(spec.limits.stop_seconds),
    )


def _start_seconds(plan: Plan, *, is_folder: bool) -> int:
    """How long a start may take before a health check counts: reading the weights slowly, and then as long as a start
    may show no progress (limits.startup_stall_seconds). Rounded up to half minutes."""
    weights = sum(gpu.weights_bytes + gpu.offloaded_bytes for gpu in plan.per_gpu)
    rate = _READ_BYTES_PER_SECOND if is_folder else _FETCH_BYTES_PER_SECOND
    return 30 * math.ceil((weights / rate + plan.spec.limits.startup_stall_seconds) / 30)


def _render_comments(plan: Plan) -> tuple[str, ...]:
    """What the plan expects, for the head of the file."""
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    lines = [
        f"Exported by `nexus export`: {plan.spec.name}, vLLM {plan.engine_version}.",
        f"The plan ({plan.loader}) {verdict}: {plan.kv_cache_tokens:,} tokens of KV cache, "
        f"context {plan.max_model_len:,}, {plan.host.required_bytes / GIB:.1f} GiB of host RAM.",
    ]
    lines += [f"Problem: {problem.message}" for problem in plan.problems]
    speed = plan.prediction.decode_tokens_per_second
    if speed is not None and plan.fits:
        lines.append(f"One request alone is expected to decode about {speed:,.{0 if speed >= 10 else 1}f} tokens/s.")
    offloaded = sum(gpu.offloaded_bytes for gpu in plan.per_gpu)
    if offloaded:
        lines.append(f"{offloaded / GIB:.1f} GiB of weights stay in host RAM.")
    return tuple(" ".join(line.split()) for line in lines)


def group_words(words: Sequence[str]) -> list[list[str]]:
    """The words with each option and its values together."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return [group for group in groups if group]


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "model"
