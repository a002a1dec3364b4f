"""For tests of plugins and of nexus_orch itself: a real process that behaves like `vllm serve`, without vLLM.

    engine = FakeEngine(fails="graph_capture_oom", cured_by=("--enforce-eager",))
    command = engine.command(port=8123)                 # a Command: start it as any other engine
    write_fake_plugin(project, engine)                  # or let a project's `engine.kind=fake` start it

An adapter's promises are tried out with `check_adapter(adapter)`; `make_settings_plan` makes plans to render, and
`find_illegal_words` says what an engine would not understand of a command line.

By hand: `NEXUS_FAKE='{"boot_seconds": 5}' python -m nexus_orch.testing serve some/model --port 8123`.
"""

from nexus_orch.testing.adapters import check_adapter
from nexus_orch.testing.engine import FakeEngine
from nexus_orch.testing.plans import make_settings_plan
from nexus_orch.testing.plugin import write_fake_plugin
from nexus_orch.testing.words import find_illegal_words

__all__ = ["FakeEngine", "check_adapter", "find_illegal_words", "make_settings_plan", "write_fake_plugin"]
