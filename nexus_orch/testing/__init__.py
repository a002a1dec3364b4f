"""For tests of plugins and of nexus_orch itself: a real process that behaves like `vllm serve`, without vLLM.

    engine = FakeEngine(fails="graph_capture_oom", cured_by=("--enforce-eager",))
    command = engine.command(port=8123)                 # a Command: start it as any other engine
    write_fake_plugin(project, engine)                  # or let a project's `engine.kind=fake` start it

By hand: `NEXUS_FAKE='{"boot_seconds": 5}' python -m nexus_orch.testing serve some/model --port 8123`.
"""

from nexus_orch.testing.engine import FakeEngine
from nexus_orch.testing.plugin import write_fake_plugin

__all__ = ["FakeEngine", "write_fake_plugin"]
