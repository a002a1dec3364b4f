"""For tests of plugins and of nexus_orch itself: a real process that behaves like `vllm serve`, without vLLM.

    engine = FakeEngine(fails="graph_capture_oom", cured_by=("--enforce-eager",))
    command = engine.command(port=8123)                 # a Command: start it as any other engine
    write_fake_plugin(project, engine)                  # or let a project's `engine.kind=fake` start it

The promises of a plugin are tried out with `check_adapter(adapter)`, `check_loader(loader)` and
`check_engine(provider, folder)`; `make_settings_plan` makes plans to render, and `find_illegal_words` says what an
engine would not understand of a command line.

By hand: `NEXUS_FAKE='{"boot_seconds": 5}' python -m nexus_orch.testing serve some/model --port 8123`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nexus_orch.testing.engine import FakeEngine
from nexus_orch.testing.plugin import write_fake_plugin

if TYPE_CHECKING:
    from nexus_orch.testing.adapters import check_adapter
    from nexus_orch.testing.engines import check_engine
    from nexus_orch.testing.loaders import check_loader
    from nexus_orch.testing.plans import make_settings_plan
    from nexus_orch.testing.words import find_illegal_words

__all__ = [
    "FakeEngine",
    "check_adapter",
    "check_engine",
    "check_loader",
    "find_illegal_words",
    "make_settings_plan",
    "write_fake_plugin",
]

_ON_DEMAND = {
    "check_adapter": "nexus_orch.testing.adapters",
    "check_engine": "nexus_orch.testing.engines",
    "check_loader": "nexus_orch.testing.loaders",
    "find_illegal_words": "nexus_orch.testing.words",
    "make_settings_plan": "nexus_orch.testing.plans",
}
"""What only tests of plugins need: a fake engine, which tests start often, does without."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_DEMAND[name]), name)
