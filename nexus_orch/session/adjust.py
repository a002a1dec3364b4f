"""Advice for a server that is short of memory: the run is planned again with one setting changed, the best wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nexus_orch.errors import ConfigError
from nexus_orch.judge.serving.advice import (
    Advice,
    Gain,
    contradicts,
    describe_helpless,
    judge_gain,
    make_moves,
    takes,
)
from nexus_orch.plan.nearby.relief import find_relief
from nexus_orch.plugin_manager import Plugins
from nexus_orch.session.prepare import Preparation, make_preparation
from nexus_orch.types import Finding, Lesson, Plan, Variation


@dataclass(frozen=True)
class Adviser:
    """Gives advice on one attempt. The facts are those from before its launch: now the engine holds the memory.

    `moved` are the settings that earlier adjustments of the run have moved, with their directions; `may_act` says
    whether another adjustment is allowed.
    """

    prepared: Preparation
    plugins: Plugins
    lessons: tuple[Lesson, ...] = ()
    moved: Mapping[str, int] = field(default_factory=dict)
    may_act: bool = False

    def advise(self, finding: Finding) -> Advice:
        """The change that would help most, with a lesson when the server is to be restarted with it.

        What the user pinned is only advised; it gives way to what may be acted on when the server is to be adjusted.
        """
        plan = self.prepared.plan
        tried = [(variation, self._plan(variation)) for variation in find_relief(finding, plan, self.prepared.facts)]
        found = [
            (variation, gain)
            for variation, after in tried
            if after is not None and (gain := self._judge(finding, after)) is not None
        ]
        if self.may_act:
            found = [entry for entry in found if entry[0].is_open(self.prepared.spec)] or found
        if not found:
            return Advice(finding.kind, finding.evidence, effect=describe_helpless(finding))
        variation, gain = max(found, key=lambda entry: entry[1].factor)
        lesson = None
        if self.may_act and variation.is_open(self.prepared.spec):
            (lesson,) = _teach(variation, finding.evidence)
        effect = f"{gain.effect}; {variation.price}" if variation.price else gain.effect
        return Advice(finding.kind, finding.evidence, variation.change, effect, lesson)

    def _judge(self, finding: Finding, after: Plan) -> Gain | None:
        if contradicts(self.moved, make_moves(self.prepared.plan, after)):
            return None
        return judge_gain(finding, self.prepared.plan, after)

    def _plan(self, variation: Variation) -> Plan | None:
        """The plan with that change; None when it cannot be made, or the engine cannot do it."""
        prepared, spec = self.prepared, self.prepared.spec
        lessons: Sequence[Lesson] = self.lessons
        if variation.is_open(spec):
            lessons = (*lessons, *_teach(variation, "tried"))
        else:
            spec, _ = variation.apply(spec, prepared.facts)
        try:
            plan = make_preparation(spec, prepared.facts, prepared.provider, self.plugins, lessons).plan
        except ConfigError:
            return None
        return plan if takes(plan, variation) else None


def _teach(variation: Variation, source: str) -> tuple[Lesson, ...]:
    """The change as what a launch has taught: it fills what the user left open, and is told as learned."""
    return tuple(Lesson(key, value, source) for key, value in variation.values.items())
