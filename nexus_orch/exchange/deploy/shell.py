"""A deployment as a shell script."""

from __future__ import annotations

import shlex

from nexus_orch.exchange.deploy.deployment import Deployment, group_words


def render_shell(deployment: Deployment) -> str:
    """A bash script that replaces itself by the server. Secrets come from variables that must be set."""
    lines = ["#!/usr/bin/env bash", *(f"# {comment}" for comment in deployment.comments), "set -euo pipefail", ""]
    for name, source in deployment.secret_env.items():
        lines.append(f': "${{{source}:?set it before the start: it holds the secret for {name}}}"')
        lines.append(f'export {name}="${source}"')
    if deployment.path:
        lines.append(f'export PATH={shlex.quote(":".join(deployment.path))}:"$PATH"')
    lines += [f"export {name}={shlex.quote(value)}" for name, value in deployment.env.items()]
    command = [*deployment.launcher, *deployment.words]
    groups = [" ".join(map(shlex.quote, group)) for group in group_words(command)]
    lines += [*([""] if lines[-1] else []), "exec " + " \\\n  ".join(groups)]
    return "\n".join(lines) + "\n"
