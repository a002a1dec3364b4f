"""A deployment as a docker-compose file."""

from __future__ import annotations

from nexus_orch.exchange.deploy.deployment import Deployment
from nexus_orch.exchange.deploy.yaml_text import (
    HUB_CACHE,
    HUB_TOKEN,
    HUB_VARIABLE,
    launch,
    needs_hub,
    quote,
    quote_raw,
    render_list,
)


def render_compose(deployment: Deployment) -> str:
    """One service with its cards, its model and a health check. Secrets are variables of the shell or of `.env`."""
    entrypoint, arguments = launch(deployment)
    lines = [
        *(f"# {comment}" for comment in deployment.comments),
        "services:",
        f"  {deployment.label}:",
        f"    image: {quote_raw(deployment.image)}",
        f"    entrypoint: [{', '.join(map(quote, entrypoint))}]",
        "    command:",
        *render_list(arguments, 6),
        *_environment(deployment),
        "    ports:",
        f"      - {quote_raw(_published(deployment))}",
        *_volumes(deployment),
        "    ipc: host # the ranks of one server talk through shared memory",
        "    ulimits:",
        "      memlock: -1 # weights and KV blocks in host RAM are pinned",
        *_devices(deployment),
        *_healthcheck(deployment),
        f"    stop_grace_period: {deployment.stop_seconds}s",
        "    restart: unless-stopped",
    ]
    return "\n".join(lines) + "\n"


def _environment(deployment: Deployment) -> list[str]:
    lines = [f"      {name}: {quote(value)}" for name, value in deployment.container_env.items()]
    if needs_hub(deployment):
        lines.append(f"      {HUB_VARIABLE}: {quote(HUB_CACHE)}")
    for name, source in deployment.secret_env.items():
        lines.append(f"      {name}: {quote_raw(f'${{{source}:?set it in the shell or in .env}}')}")
    if not deployment.is_folder and HUB_TOKEN not in deployment.secret_env:
        lines.append(f"      {HUB_TOKEN}: {quote_raw(f'${{{HUB_TOKEN}:-}}')} # for models that ask for it")
    return ["    environment:", *lines] if lines else []


def _published(deployment: Deployment) -> str:
    host = deployment.published_host
    address = f"[{host}]:" if ":" in host else f"{host}:" if host else ""
    return f"{address}{deployment.port}:{deployment.port}"


def _volumes(deployment: Deployment) -> list[str]:
    if not deployment.is_folder:
        cache = f"~/.cache/huggingface:{HUB_CACHE}"
        return ["    volumes:", f"      - {quote_raw(cache)}"] if needs_hub(deployment) else []
    return [
        "    volumes:",
        "      - type: bind",
        f"        source: {quote(deployment.model)}",
        f"        target: {quote(deployment.inside_model)}",
        "        read_only: true",
    ]


def _devices(deployment: Deployment) -> list[str]:
    if not deployment.gpus:
        return []
    which = f"count: {deployment.gpus}"
    if deployment.devices:
        which = f"device_ids: [{', '.join(map(quote_raw, deployment.devices))}]"
    return [
        "    deploy:",
        "      resources:",
        "        reservations:",
        "          devices:",
        "            - driver: nvidia",
        f"              {which}",
        "              capabilities: [gpu]",
    ]


def _healthcheck(deployment: Deployment) -> list[str]:
    address = f"http://127.0.0.1:{deployment.port}/health"
    code = f"import urllib.request; urllib.request.urlopen('{address}', timeout=5)"
    return [
        "    healthcheck:",
        f'      test: ["CMD", "python3", "-c", {quote(code)}]',
        "      interval: 10s",
        "      timeout: 6s",
        "      retries: 3",
        f"      start_period: {deployment.start_seconds}s # the weights read slowly, and the engine's own start",
    ]
