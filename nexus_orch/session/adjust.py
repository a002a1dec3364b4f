"""Advice for a server that is short of memory: the run is planned again with one setting changed, the best wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nexus_orch.errors import ConfigError
from nexus_orch.judge.serving.advice import (
    Advice,
    Gain,
    Proposal,
    contradicts,
    describe_helpless,
    judge_gain,
    make_moves,
    propose,
    takes,
)
from nexus_orch.judge.serving.pressure import Finding
from nexus_orch.plan.asked.wishes import with_value
from nexus_orch.plugin_manager import Plugins
from nexus_orch.session.prepare import Preparation, make_preparation
from nexus_orch.types import Lesson, Plan


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
        tried = [(proposal, self._plan(proposal)) for proposal in propose(finding, plan, self.prepared.facts)]
        found = [
            (proposal, gain)
            for proposal, after in tried
            if after is not None and (gain := self._judge(finding, after)) is not None
        ]
        if self.may_act:
            found = [entry for entry in found if self._is_open(entry[0])] or found
        if not found:
            return Advice(finding.kind, finding.evidence, effect=describe_helpless(finding))
        proposal, gain = max(found, key=lambda entry: entry[1].factor)
        lesson = None
        if self.may_act and self._is_open(proposal):
            lesson = Lesson(proposal.key, proposal.value, finding.evidence)
        effect = f"{gain.effect}; {proposal.price}" if proposal.price else gain.effect
        return Advice(finding.kind, finding.evidence, proposal.override, effect, lesson)

    def _is_open(self, proposal: Proposal) -> bool:
        return self.prepared.spec.get(proposal.key) in (None, "auto")

    def _judge(self, finding: Finding, after: Plan) -> Gain | None:
        if contradicts(self.moved, make_moves(self.prepared.plan, after)):
            return None
        return judge_gain(finding, self.prepared.plan, after)

    def _plan(self, proposal: Proposal) -> Plan | None:
        """The plan with that change; None when it cannot be made, or the engine cannot do it."""
        prepared, spec = self.prepared, self.prepared.spec
        lessons: Sequence[Lesson] = self.lessons
        if self._is_open(proposal):
            lessons = (*lessons, Lesson(proposal.key, proposal.value, "tried"))
        else:
            spec = with_value(spec, proposal.key, proposal.value)
        try:
            plan = make_preparation(spec, prepared.facts, prepared.provider, self.plugins, lessons).plan
        except ConfigError:
            return None
        return plan if takes(plan, proposal) else None
