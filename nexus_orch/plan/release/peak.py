"""The peak that vLLM finds when it profiles a card: that of a forward pass, or of compiling the model before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

LEAST_OF_COMPILING = 0.85
"""A measured peak that reaches so much of the expected one of compiling is taken for it: 0.91 was the least of four
models (see `nexus_orch.plan.release.accounting.compiling_bytes`)."""


@dataclass(frozen=True)
class Peak:
    """Bytes of a forward pass, and of compiling on each card, which is 0 where nothing is compiled."""

    pass_bytes: int
    compiling_bytes: tuple[int, ...]

    @cached_property
    def bytes(self) -> tuple[int, ...]:
        """What the profile finds on each card."""
        return tuple(max(self.pass_bytes, compiling) for compiling in self.compiling_bytes)

    @property
    def later_gain_bytes(self) -> int:
        """How much more every card has for the KV cache when a later start finds what was compiled."""
        return min(self.bytes) - self.pass_bytes


def learn_peak(expected: Peak, eager: int | None, compiled: int | None) -> Peak:
    """The expected peak with what starts have measured: an eager one, and one that may have compiled the model. A later
    one has the peak of its pass, which is no promise for the next that compiles."""
    if compiled is None:
        return expected if eager is None else replace(expected, pass_bytes=eager)
    compiling = max(expected.compiling_bytes)
    if not compiling or compiled < LEAST_OF_COMPILING * compiling:
        return replace(expected, pass_bytes=compiled)
    alone = expected.pass_bytes if eager is None else eager
    return Peak(min(alone, compiled), tuple(compiled if each else 0 for each in expected.compiling_bytes))
