"""Loops of a script: rounds that are known are followed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nexus_orch.exchange.shell.answers import compute
from nexus_orch.exchange.shell.expand import expanded
from nexus_orch.exchange.shell.output import print_of
from nexus_orch.exchange.shell.state import State
from nexus_orch.exchange.shell.tree import For, Loop, Node
from nexus_orch.exchange.start import has_reference, make_reference

if TYPE_CHECKING:
    from nexus_orch.exchange.shell.run import Runner

_MOST_ROUNDS = 64


def follow_for(runner: Runner, node: For, state: State, depth: int) -> list[State]:
    """The states after a loop over words: each word is a round when all are known, else there is one round."""
    values = state.positionals or [] if node.words is None else expanded(node.words, state, print_of)
    is_known = len(values) <= _MOST_ROUNDS and not any(has_reference(value) for value in values)
    is_known &= node.words is not None or state.positionals is not None
    if not is_known or (any(sign in value for value in values for sign in "*?") and len(values) == 1):
        values = [make_reference(node.name, f"the loop `{node.text}`")]
    states = [state]
    for value in values:
        for one in states:
            one.variables[node.name] = value
        told = f", {node.name}={value}" if is_known else ""
        states = _round(runner, node.body, states, f"the loop `{node.text}` of line {node.line}{told}", depth)
    return _after_loop(states)


def follow_loop(runner: Runner, node: Loop, state: State, depth: int) -> list[State]:
    """The states after `while`, `until` or a counting loop."""
    where = f"the loop `{node.text}` of line {node.line}"
    if node.header is None:
        [*asked] = runner.run_all(node.condition, [state], depth + 1) if node.condition else [state.says(True)]
        runs = [one for one in asked if one.runs_on and (one.holds is not False or node.text.startswith("until"))]
        rest = [one for one in asked if one not in runs]
        for one in rest:
            if "#" in one.unset:
                one.note("the arguments that the script is called with ($@)")
        return _after_loop([*rest, *(_round(runner, node.body, runs, where, depth) if runs else [])])
    return _count(runner, node, state, depth)


def _count(runner: Runner, node: Loop, state: State, depth: int) -> list[State]:
    """`for ((i=0; i<N; i++))`: as many rounds as can be computed, else one."""
    where = f"the loop `{node.text}` of line {node.line}"
    first, condition, step = (*(node.header or "").split(";"), "", "", "")[:3]
    compute(first, state)
    name = first.partition("=")[0].strip()
    states = [state]
    for _ in range(_MOST_ROUNDS):
        goes_on = compute(condition, states[0]) if len(states) == 1 and states[0].runs_on else 0
        if goes_on is None:
            if name.isidentifier():
                states[0].variables[name] = make_reference(name, f"the loop `{node.text}`")
            return _after_loop(_round(runner, node.body, states, where, depth))
        if not goes_on:
            break
        told = f", {name}={states[0].variables.get(name)}" if name.isidentifier() else ""
        states = _round(runner, node.body, states, where + told, depth)
        for one in states:
            compute(step, one)
    return _after_loop(states)


def _round(runner: Runner, body: Sequence[Node], states: list[State], where: str, depth: int) -> list[State]:
    before = {id(state): state.inside for state in states}
    inside = next(iter(before.values()), ())
    for state in states:
        state.inside = (*inside, where)
    after = runner.run_all(body, states, depth + 1)
    for state in after:
        state.inside = inside
        state.is_left = "" if state.is_left == "continue" else state.is_left
    return after


def _after_loop(states: list[State]) -> list[State]:
    for state in states:
        state.is_left = "" if state.is_left in ("break", "continue") else state.is_left
        state.says(True)
    return states
