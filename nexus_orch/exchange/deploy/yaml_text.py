"""What the YAML formats share: text in quotes, and the health check."""

from __future__ import annotations

import yaml

from nexus_orch.exchange.deploy.deployment import Deployment

HUB_CACHE = "/hub"
"""Where a container keeps models of the hub (HF_HOME), whatever user its image runs as."""
HUB_VARIABLE = "HF_HOME"
HUB_TOKEN = "HF_TOKEN"


def quote(text: str) -> str:
    """The text in double quotes, with `$` doubled: compose and Kubernetes would take it for a variable."""
    return quote_raw(text.replace("$", "$$"))


def quote_raw(text: str) -> str:
    """The text in double quotes as it is."""
    quoted: str = yaml.safe_dump(text, default_style='"', width=float("inf"), allow_unicode=True)
    return quoted.rstrip("\n")


def render_list(words: tuple[str, ...], indent: int) -> list[str]:
    """One item on each line."""
    return [f"{' ' * indent}- {quote(word)}" for word in words]


def needs_hub(deployment: Deployment) -> bool:
    """Whether the model comes from a hub, and nothing else says where it is kept."""
    return not deployment.is_folder and HUB_VARIABLE not in deployment.container_env


def launch(deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the container starts, and its arguments: `vllm serve` and the rest, or the module of old releases."""
    words = deployment.container_words
    if words[:1] == ("serve",):
        return (*deployment.container_launcher, "serve"), words[1:]
    return deployment.container_launcher, words
