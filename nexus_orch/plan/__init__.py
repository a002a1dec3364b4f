"""Pure planning: architecture maths, memory accounting, choices with reasons. No clock, no operating system."""

from nexus_orch.plan.model.families import parse_architecture
from nexus_orch.plan.model.parameters import count_parameters
from nexus_orch.plan.model.quantization import choose_scheme
from nexus_orch.plan.model.tensors import choose_architecture

__all__ = ["choose_architecture", "choose_scheme", "count_parameters", "parse_architecture"]
