"""A deployment as a Kubernetes manifest."""

from __future__ import annotations

import math

from nexus_orch.exchange.deploy.deployment import MODELS_FOLDER, Deployment
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
from nexus_orch.types import MIB

_PROBE_SECONDS = 10


def render_kubernetes(deployment: Deployment) -> str:
    """A Deployment and its Service. Secrets come from a Secret that the first lines say how to make."""
    command, arguments = launch(deployment)
    label = deployment.label
    lines = [
        *(f"# {comment}" for comment in deployment.comments),
        *_secret_advice(deployment),
        "apiVersion: apps/v1",
        "kind: Deployment",
        "metadata:",
        f"  name: {label}",
        f"  labels: {{app: {label}}}",
        "spec:",
        "  replicas: 1",
        "  strategy: {type: Recreate} # the cards are free only when the old server is gone",
        "  selector:",
        f"    matchLabels: {{app: {label}}}",
        "  template:",
        "    metadata:",
        f"      labels: {{app: {label}}}",
        "    spec:",
        f"      terminationGracePeriodSeconds: {deployment.stop_seconds}",
        "      containers:",
        "        - name: vllm",
        f"          image: {quote_raw(deployment.image)}",
        f"          command: [{', '.join(map(quote, command))}]",
        "          args:",
        *render_list(arguments, 12),
        *_environment(deployment),
        "          ports:",
        f"            - {{name: http, containerPort: {deployment.port}}}",
        *_resources(deployment),
        *_probes(deployment),
        *_volumes(deployment),
        "---",
        *_service(deployment),
    ]
    return "\n".join(lines) + "\n"


def _secret_name(deployment: Deployment) -> str:
    return f"{deployment.label}-secrets"


def _secret_advice(deployment: Deployment) -> list[str]:
    if not deployment.secret_env:
        return []
    literals = " ".join(f'--from-literal={source}="${source}"' for source in deployment.secret_env.values())
    return [f"# Before: kubectl create secret generic {_secret_name(deployment)} {literals}"]


def _environment(deployment: Deployment) -> list[str]:
    lines: list[str] = []
    for name, value in deployment.container_env.items():
        lines += [f"            - name: {name}", f"              value: {quote(value)}"]
    if needs_hub(deployment):
        lines += [f"            - name: {HUB_VARIABLE}", f"              value: {quote(HUB_CACHE)}"]
    for name, source in deployment.secret_env.items():
        lines += _from_secret(deployment, name, source)
    if not deployment.is_folder and HUB_TOKEN not in deployment.secret_env:
        lines += [*_from_secret(deployment, HUB_TOKEN, HUB_TOKEN), "                  optional: true"]
    return ["          env:", *lines] if lines else []


def _from_secret(deployment: Deployment, name: str, source: str) -> list[str]:
    return [
        f"            - name: {name}",
        "              valueFrom:",
        "                secretKeyRef:",
        f"                  name: {_secret_name(deployment)}",
        f"                  key: {source}",
    ]


def _resources(deployment: Deployment) -> list[str]:
    memory = math.ceil(deployment.host_ram_bytes / MIB)
    lines = [
        "          resources:",
        "            requests:",
        f"              memory: {memory}Mi # what the plan takes of the host's RAM",
    ]
    if deployment.gpus:
        lines += ["            limits:", f'              nvidia.com/gpu: "{deployment.gpus}"']
    return lines


def _probes(deployment: Deployment) -> list[str]:
    check = "            httpGet: {path: /health, port: http}"
    return [
        "          startupProbe: # the weights read slowly, and the engine's own start",
        check,
        f"            periodSeconds: {_PROBE_SECONDS}",
        f"            failureThreshold: {math.ceil(deployment.start_seconds / _PROBE_SECONDS)}",
        "          readinessProbe:",
        check,
        f"            periodSeconds: {_PROBE_SECONDS}",
        "          livenessProbe:",
        check,
        f"            periodSeconds: {_PROBE_SECONDS}",
        "            timeoutSeconds: 5",
        "            failureThreshold: 6",
    ]


def _volumes(deployment: Deployment) -> list[str]:
    lines = ["          volumeMounts:", "            - {name: shm, mountPath: /dev/shm}"]
    if deployment.is_folder:
        lines += [
            "            - name: model",
            f"              mountPath: {quote(deployment.inside_model)}",
            "              readOnly: true",
        ]
    elif needs_hub(deployment):
        lines.append(f"            - {{name: hub-cache, mountPath: {HUB_CACHE}}}")
    lines += ["      volumes:", "        - {name: shm, emptyDir: {medium: Memory}}"]
    if deployment.is_folder:
        path = f"hostPath: {{path: {quote_raw(deployment.model)}, type: Directory}}"
        return [*lines, f"        - name: model # {MODELS_FOLDER} of the node that has it", f"          {path}"]
    if needs_hub(deployment):
        lines.append("        - {name: hub-cache, emptyDir: {}} # a volume of your own keeps downloads")
    return lines


def _service(deployment: Deployment) -> list[str]:
    label = deployment.label
    return [
        "apiVersion: v1",
        "kind: Service",
        "metadata:",
        f"  name: {label}",
        "spec:",
        f"  selector: {{app: {label}}}",
        "  ports:",
        f"    - {{name: http, port: {deployment.port}, targetPort: http}}",
    ]
