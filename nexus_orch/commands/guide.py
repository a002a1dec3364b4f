"""`nexus plan --guide`: the guidance tables, planned anew over all profiles."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nexus_orch.commands.options import conf_dirs
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.profiles import read_machines, read_models
from nexus_orch.plan.nearby.guide import make_guide
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.view.guide import render_guide


def show_guide(overrides: Sequence[str], output: str, project: Path | None) -> int:
    """Print the tables. Raises ConfigError for overrides: the guide is about all profiles, not about one run."""
    if overrides:
        remedy = "leave them away; `nexus plan` without --guide plans one run"
        raise ConfigError(Problem("--guide takes no overrides", value=" ".join(overrides), remedy=remedy))
    folders = conf_dirs(project)
    engine = make_assumed_engine()
    guide = make_guide(read_models(folders), read_machines(folders), engine, load_plugins(project).loaders())
    if output == "json":
        sys.stdout.write(json.dumps(asdict(guide), indent=2) + "\n")
    elif output == "yaml":
        import yaml  # noqa: PLC0415 - only this format needs it

        sys.stdout.write(yaml.safe_dump(json.loads(json.dumps(asdict(guide))), sort_keys=False))
    else:
        sys.stdout.write(render_guide(guide))
    return ExitCode.GOOD
