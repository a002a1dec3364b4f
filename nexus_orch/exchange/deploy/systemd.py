"""A deployment as a systemd unit."""

from __future__ import annotations

from nexus_orch.exchange.deploy.deployment import Deployment, group_words
from nexus_orch.exchange.foreign.systemd import API_KEY_OPTION, API_KEY_SECTION
from nexus_orch.exchange.text.secrets import API_KEY_VARIABLE

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""What services get by themselves (systemd.exec(5)); a unit cannot put a folder before it without naming it."""


def render_systemd(deployment: Deployment) -> str:
    """A unit that counts as started when /health answers. Secrets come from a file that only root should read."""
    launcher = deployment.launcher if deployment.launcher[0].startswith("/") else ("/usr/bin/env", *deployment.launcher)
    groups = [" ".join(map(quote_word, group)) for group in group_words([*launcher, *deployment.words])]
    address = deployment.host if deployment.published_host else "127.0.0.1"
    check = f"until curl -fsS http://{address}:{deployment.port}/health; do sleep 2; done"
    lines = [
        *(f"# {comment}" for comment in deployment.comments),
        f"# Save as /etc/systemd/system/{deployment.label}.service; then systemctl enable --now {deployment.label}",
        "[Unit]",
        f"Description=vLLM serves {deployment.label}",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=exec",
        "# User=NAME    a user of your own whose home holds the model cache",
        *(f"Environment={quote_value(f'{name}={value}')}" for name, value in _environment(deployment).items()),
        *_secret_lines(deployment),
        "ExecStart=" + " \\\n    ".join(groups),
        f"ExecStartPost=/bin/sh -c {quote_word(check)}",
        f"TimeoutStartSec={deployment.start_seconds}",
        "KillMode=mixed",
        f"TimeoutStopSec={deployment.stop_seconds}",
        "Restart=on-failure",
        "RestartSec=10",
        "LimitMEMLOCK=infinity",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        *_key_section(deployment),
    ]
    return "\n".join(lines) + "\n"


def _environment(deployment: Deployment) -> dict[str, str]:
    path = {"PATH": ":".join((*deployment.path, _SYSTEM_PATH))} if deployment.path else {}
    return {**path, **deployment.env}


def _secret_lines(deployment: Deployment) -> list[str]:
    if not deployment.secret_env:
        return []
    held = ", ".join(f"{name}=(the value of {source})" for name, source in deployment.secret_env.items())
    return [f"# holds {held}; chmod 600", f"EnvironmentFile=/etc/nexus_orch/{deployment.label}.env"]


def _key_section(deployment: Deployment) -> list[str]:
    """systemd ignores sections that begin with X-; `nexus import` reads back which variable held the key."""
    source = deployment.secret_env.get(API_KEY_VARIABLE)
    return [] if source is None else ["", f"[{API_KEY_SECTION}]", f"{API_KEY_OPTION}={source}"]


def quote_word(word: str) -> str:
    """A word of ExecStart: `%` and `$` are doubled, everything unusual stands in quotes (systemd.service(5))."""
    return quote_value(word).replace("$", "$$")


def quote_value(text: str) -> str:
    """A value of Environment, in which `$` means nothing (systemd.exec(5))."""
    text = text.replace("%", "%%")
    if text and all(letter.isalnum() or letter in "-_./:=,+@$%" for letter in text) and text.isascii():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
