"""The Hugging Face cache of this user, read by hand: which models are here already.

Layout (huggingface_hub, guide "Understand caching"): <cache>/models--ORG--NAME/{refs/main, snapshots/<revision>/}.
"""

from __future__ import annotations

import os
from pathlib import Path


def hub_cache_dir() -> Path:
    """The cache's folder, by the variables that huggingface_hub reads, in its order. It may not exist."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "huggingface" / "hub"


def find_snapshot(hub_id: str) -> Path | None:
    """The folder of a model's main revision (else of its newest one) that holds a config.json; None when not cached."""
    model = hub_cache_dir() / f"models--{hub_id.replace('/', '--')}"
    snapshots = model / "snapshots"
    main = _read_main_revision(model)
    if main and (snapshots / main / "config.json").is_file():
        return snapshots / main
    configs = [file for file in snapshots.glob("*/config.json") if file.is_file()]
    return max(configs, key=lambda file: file.stat().st_mtime).parent if configs else None


def _read_main_revision(model: Path) -> str:
    try:
        return (model / "refs" / "main").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
