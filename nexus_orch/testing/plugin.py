"""A project whose `engine.kind=fake` is a fake engine, so that the whole of nexus_orch can be run without vLLM."""

from __future__ import annotations

from pathlib import Path

from nexus_orch.testing.engine import VARIABLE, FakeEngine

_TEMPLATE = '''"""An engine provider that starts fake engines (written by nexus_orch.testing)."""

import json
import sys

from nexus_orch import hookimpl
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.launch.processes.local import LocalProcesses
from nexus_orch.testing.world import read_world
from nexus_orch.types import Command, EngineFacts

BEHAVIOUR = json.loads({behaviour!r})


class FakeProvider(LocalProcesses):
    kind = "fake"

    def find(self, spec, *, cpu):
        version = spec.engine.version or BEHAVIOUR["version"]
        return EngineFacts(
            version=version,
            device="cpu" if cpu else "cuda",
            source="installed",
            python=sys.executable,
            flags=catalogue_flags(version),
        )

    def command(self, order):
        rendering, engine, env = order.rendering, order.facts.engine, order.plan.spec.engine.env
        behaviour = dict(BEHAVIOUR, version=engine.version, device=engine.device)
        if behaviour["world"] is not None:
            grid = read_world(behaviour["world"]).GRID
            behaviour["world_settings"] = {{key: order.plan.spec.get(key) for key in grid}}
        return Command(
            argv=(sys.executable, "-m", "nexus_orch.testing", *rendering.argv),
            env={{**rendering.env, **env, "NEXUS_FAKE": json.dumps(behaviour)}},
            secrets=rendering.secrets,
        )


@hookimpl
def nexus_engines():
    return (FakeProvider(),)
'''


def write_fake_plugin(project: Path, engine: FakeEngine | None = None) -> Path:
    """Write `plugins/engine_fake.py` into a project folder, for `nexus-run --project DIR engine.kind=fake ...`.

    A folder that is no project yet gets an empty `conf/`. The engine runs on the CPU or on CUDA as the plan says.
    Returns the plugin's path.
    """
    behaviour = (engine or FakeEngine()).env[VARIABLE]
    path = project / "plugins" / "engine_fake.py"
    for folder in (project / "conf", path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_TEMPLATE.format(behaviour=behaviour), encoding="utf-8")
    return path
