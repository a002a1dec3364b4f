"""A script followed command by command, along all ways that its conditions leave open. Nothing is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from nexus_orch.exchange.shell.answers import compute, judge
from nexus_orch.exchange.shell.commands import follow_simple
from nexus_orch.exchange.shell.expand import Expander
from nexus_orch.exchange.shell.loops import follow_for, follow_loop
from nexus_orch.exchange.shell.output import print_of
from nexus_orch.exchange.shell.parser import parse
from nexus_orch.exchange.shell.state import Call, Decision, ReadFile, State, merge
from nexus_orch.exchange.shell.tree import (
    AndOr,
    Calculation,
    Case,
    For,
    Function,
    Group,
    If,
    Loop,
    Node,
    Output,
    Pipeline,
    ShellParameter,
    Simple,
    Sum,
    Test,
    Word,
)
from nexus_orch.exchange.start import Start, has_reference, make_reference

MOST_WAYS = 24
MOST_STEPS = 5_000
"""Scripts that start a server are far shorter; a function that calls itself would not end."""
_DEEPEST = 30

Find = Callable[[Call], Sequence[Start]]
"""The starts of vLLM in one command."""
Pin = Callable[[Sequence[str]], str | None]
"""The release of vLLM that a command installs."""


@dataclass
class Runner:
    """Follows commands. `told` are variables whose values the user gave beside the file: they win over what is not
    known."""

    find: Find
    pin: Pin
    read: ReadFile
    told: dict[str, str] = field(default_factory=dict)
    place: str = ""
    steps: int = 0

    def run_text(self, text: str, state: State, line: int = 1) -> list[State]:
        nodes, notes = parse(text, line)
        state.assumed = (*state.assumed, *notes)
        return self.run_all(nodes, [state])

    def run_all(self, nodes: Sequence[Node], states: list[State], depth: int = 0) -> list[State]:
        """The states after these commands, one after the other."""
        for node in nodes:
            going = [state for state in states if state.runs_on]
            if not going or self.steps > MOST_STEPS or depth > _DEEPEST:
                break
            ended = [state for state in states if not state.runs_on]
            after = [reached for state in going for reached in self.run(node, state, depth + 1)]
            states = merge([*ended, *after], MOST_WAYS) if len(ended) + len(after) > 1 else after
        return states

    def run(self, node: Node, state: State, depth: int) -> list[State]:
        """The states after one command."""
        self.steps += 1
        follow = _FOLLOW[type(node)]
        return follow(self, node, state, depth)

    # -- conditions

    def _split(
        self, states: list[State], text: str, line: int, *, in_list: bool = False
    ) -> tuple[list[State], list[State]]:
        """The states in which a condition holds and those in which it does not; a state stands in both when the file
        does not tell, or when a variable that was not set would turn it round."""
        yes: list[State] = []
        no: list[State] = []
        for state in states:
            if not state.runs_on:
                no.append(state)
                continue
            holds, unset = state.holds, state.unset
            if holds is None and in_list and not state.asks:
                yes.append(state)  # a command that does something is taken to succeed
                continue
            if holds is not None and not unset:
                (yes if holds else no).append(state)
                continue
            known = {decision.text: decision.holds for decision in state.decisions}
            if text in known:  # the same question again has the same answer
                (yes if known[text] else no).append(state)
                continue
            for outcome, into in ((True, yes), (False, no)):
                one = state.copy()
                is_against = holds is not None and outcome is not holds
                if is_against:
                    _fill(one, unset)
                one.decisions = (*one.decisions, Decision(text, line, outcome, unset, is_against))
                into.append(one)
        return yes, no

    def and_or(self, node: AndOr, state: State, depth: int) -> list[State]:
        states = [state]
        for joint, part in node.items:
            if not joint:
                states = self.run(part, state, depth + 1)
                continue
            yes, no = self._split(states, _text_of(node.items[0][1]), _line_of(part), in_list=True)
            going, staying = (yes, no) if joint == "&&" else (no, yes)
            after = [reached for one in going if one.runs_on for reached in self.run(part, one, depth + 1)]
            ended = [one for one in going if not one.runs_on]
            for one in staying:
                if one.runs_on:
                    one.says(joint != "&&")
            states = merge([*staying, *ended, *after], MOST_WAYS)
        return states

    def if_else(self, node: If, state: State, depth: int) -> list[State]:
        done: list[State] = []
        waiting = [state]
        for condition, body, text, line in node.branches:
            asked = self.run_all(condition, waiting, depth + 1)
            done += [one for one in asked if not one.runs_on]
            yes, waiting = self._split([one for one in asked if one.runs_on], text, line)
            done += self.run_all(body, yes, depth + 1) if yes else []
        done += self.run_all(node.otherwise, waiting, depth + 1) if waiting else []
        for one in done:
            one.says(True)
        return merge(done, MOST_WAYS)

    def case(self, node: Case, state: State, depth: int) -> list[State]:
        expander = Expander(state, print_of, in_condition=True, sees_defaults=True)
        subject = expander.text(node.subject)
        if has_reference(subject):
            done = []
            for number, (_, body) in enumerate(node.clauses):
                one = state.copy()
                one.decisions = (*one.decisions, Decision(f"{node.text}, case {number + 1}", node.line, True))
                done += self.run_all(body, [one], depth + 1)
            return merge(done, MOST_WAYS) or [state]
        chosen = next((body for patterns, body in node.clauses if self._fits(subject, patterns, state)), ())
        if not expander.unset:
            return self.run_all(chosen, [state], depth + 1)
        done = []
        for number, (patterns, body) in enumerate(node.clauses):
            one = state.copy()
            is_against = body is not chosen
            if is_against and self._fits(subject, patterns, state):
                continue
            text = node.text if not is_against else f"{node.text}, case {number + 1}"
            one.decisions = (
                *one.decisions,
                Decision(text, node.line, not is_against, frozenset(expander.unset), is_against),
            )
            done += self.run_all(body, [one], depth + 1)
        return merge(done or [state], MOST_WAYS)

    def _fits(self, subject: str, patterns: Sequence[Word], state: State) -> bool:
        expander = Expander(state, print_of, in_condition=True)
        return any(fnmatchcase(subject, expander.text(pattern)) for pattern in patterns)

    def pipeline(self, node: Pipeline, state: State, depth: int) -> list[State]:
        states = [state]
        for command in _fed(node.commands):
            states = self.run_all([command], states, depth + 1)
        for one in states:
            if len(node.commands) > 1:
                one.says(None, asks=True)
            if node.is_negated and one.holds is not None:
                one.holds = not one.holds
        return states

    def group(self, node: Group, state: State, depth: int) -> list[State]:
        if not node.is_subshell:
            return self.run_all(node.body, [state], depth + 1)
        outer = state.copy()
        after = self.run_all(node.body, [state], depth + 1)
        return [
            replace(outer.copy(), found=one.found, decisions=one.decisions, notes=one.notes, release=one.release)
            for one in after
        ]


def _fed(commands: Sequence[Node]) -> Sequence[Node]:
    """The commands of a pipe; what `cat` is given in a here-document is the text of the command behind it."""
    first, *others = commands
    if not (isinstance(first, Simple) and others and isinstance(others[0], Simple)) or len(first.words) != 1:
        return commands
    bodies = tuple(redirect for redirect in first.redirects if redirect.body is not None)
    is_cat = first.words[0].plain == "cat" and bodies
    return [replace(others[0], redirects=(*others[0].redirects, *bodies)), *others[1:]] if is_cat else commands


def _fill(state: State, names: frozenset[str]) -> None:
    """Where a condition is taken against the values as they stand, an empty variable that it looks at has one that
    nobody knows."""
    for name in names:
        if name in state.origins and state.variables.get(name) == "":
            state.variables[name] = make_reference(name)


def _define(runner: Runner, node: Function, state: State, depth: int) -> list[State]:
    del runner, depth
    state.functions[node.name] = node.body
    return [state.says(True)]


def _test(runner: Runner, node: Test, state: State, depth: int) -> list[State]:
    del runner, depth
    return [judge(node.words, state, is_double=True)]


def _calculation(runner: Runner, node: Calculation, state: State, depth: int) -> list[State]:
    del runner, depth
    unset: set[str] = set()
    value = compute(node.expression, state, unset)
    return [state.says(None if value is None else bool(value), asks=True, unset=frozenset(unset))]


_FOLLOW: Mapping[type, Callable[[Runner, Any, State, int], list[State]]] = {
    Simple: follow_simple,
    Test: _test,
    Calculation: _calculation,
    Pipeline: Runner.pipeline,
    AndOr: Runner.and_or,
    If: Runner.if_else,
    For: follow_for,
    Loop: follow_loop,
    Case: Runner.case,
    Function: _define,
    Group: Runner.group,
}


def _line_of(node: Node) -> int:
    return int(getattr(node, "line", 0))


def _text_of(node: Node) -> str:
    """A condition as its script says it."""
    if isinstance(node, Test):
        return node.text
    if isinstance(node, Simple):
        return " ".join(_word_text(word) for word in node.words)
    if isinstance(node, Pipeline):
        return " | ".join(map(_text_of, node.commands))
    return "the condition"


def _word_text(word: Word) -> str:
    said = ""
    for part in word.parts:
        if isinstance(part, ShellParameter):
            said += f"${{{part.name}{part.rest}}}" if part.rest else f"${part.name}"
        elif isinstance(part, Output):
            said += f"$({part.command})"
        elif isinstance(part, Sum):
            said += f"$(({part.expression}))"
        else:
            said += part.text
    return said
