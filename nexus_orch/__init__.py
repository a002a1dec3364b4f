"""nexus_orch: plan, launch, prove and recover large language models on vLLM."""

__version__ = "0.1.0"

from nexus_orch.hookspecs import hookimpl

__all__ = ["__version__", "hookimpl"]
