"""The ways through a script to the servers that it starts: one when its conditions can be answered, else several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nexus_orch.exchange.shell.state import Decision, State
from nexus_orch.exchange.start import Start


def choose_ways(states: Sequence[State]) -> list[Start]:
    """The starts on the way that needs the fewest variables set; where nothing in the file decides, those of each way,
    named by its conditions. What was assumed is told with each start."""
    found = [state for state in states if state.found]
    if not found:
        return []
    least = min(state.cost for state in found)
    ways = _distinct([state for state in found if state.cost == least])
    if len(ways) == 1:
        return _told(ways[0], found)
    return [
        replace(start, way=_name(state, ways) or f"way {number}", place=start.place)
        for number, state in enumerate(ways, 1)
        for start in _told(state, found)
    ]


def _distinct(states: Sequence[State]) -> list[State]:
    """One state for each list of starts."""
    kept: list[State] = []
    for state in states:
        if all(_essence(state) != _essence(other) for other in kept):
            kept.append(state)
    return kept


def _essence(state: State) -> list[tuple[object, ...]]:
    return [(start.argv, sorted(start.env.items()), start.container, start.release) for start in state.found]


def _told(state: State, others: Sequence[State]) -> list[Start]:
    """The starts of a state with what was assumed about variables that have no value."""
    assumed = [_assumption(decision, state, others) for decision in state.decisions if decision.unset]
    notes = [*state.assumed, *(text for text in assumed if text)]
    return [start.with_assumptions(*notes).with_notes(*state.notes) for start in state.found]


def _assumption(decision: Decision, state: State, others: Sequence[State]) -> str:
    """How a condition was answered; nothing when the other answer would start the same."""
    where = f"line {decision.line}: `{decision.text}`"
    names = ", ".join(f"${name}" for name in sorted(decision.unset))
    if decision.is_against:
        how = "held" if decision.holds else "did not hold"
        return f"{where} is read as if it {how}, because the script starts nothing else; {names} decides it"
    turned = (other for other in others if any(_is_turned(decision, one) for one in other.decisions))
    if all(_essence(other) == _essence(state) for other in turned):
        return ""
    verb, opposite = ("holds", "does not hold") if decision.holds else ("does not hold", "holds")
    if decision.text.startswith("case "):
        verb, opposite = "is read for the value that the file gives", "has another one"
    given = next((f" (nexus import FILE {name}=...)" for name in sorted(decision.unset) if name.isidentifier()), "")
    are = "are" if len(decision.unset) > 1 else "is"
    return (
        f"{where} {verb}, because {names} {are} not set in the file; the script starts the server in another way when "
        f"it {opposite}{given}"
    )


def _is_turned(decision: Decision, other: Decision) -> bool:
    """Whether it is the same question with another answer."""
    is_same = (other.line, other.unset) == (decision.line, decision.unset) and other.text.startswith(decision.text)
    return is_same and (other.holds, other.is_against) != (decision.holds, decision.is_against)


def _name(state: State, ways: Sequence[State]) -> str:
    """The conditions in which this way differs from the others."""
    own = [decision for decision in state.decisions if not decision.unset]
    return " and ".join(
        f"`{decision.text}` of line {decision.line} {'holds' if decision.holds else 'does not hold'}"
        for decision in own
        if not all(decision in other.decisions for other in ways)
    )
