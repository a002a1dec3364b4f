"""What a sweep measured of a profile, and whether it still holds here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nexus_orch.types import EvidenceSpec, Facts, GpuFacts


def evidence_notes(evidence: EvidenceSpec, facts: Facts) -> Iterator[str]:
    """One note of what was measured, and one of what is different here; nothing for a profile without evidence."""
    if evidence.tokens_per_second is None:
        return
    yield f"measured{_when(evidence)}: {', '.join(_figures(evidence))}"
    changed = list(_changes(evidence, facts))
    if changed:
        yield f"that evidence is of another case: {'; '.join(changed)}; measure again (nexus-run -m) to rely on it"


def describe_cards(gpus: tuple[GpuFacts, ...]) -> str:
    """Cards by number and name, as evidence keeps them; "none" for the CPU engine."""
    return ", ".join(f"{count} x {name}" for name, count in Counter(gpu.name for gpu in gpus).items()) or "none"


def _when(evidence: EvidenceSpec) -> str:
    return f" on {evidence.date}" if evidence.date else ""


def _figures(evidence: EvidenceSpec) -> Iterator[str]:
    together = f" of {evidence.concurrency} requests at once" if evidence.concurrency else ""
    yield f"{evidence.tokens_per_second:,.4g} output tokens/s{together}"
    if evidence.first_token_seconds is not None:
        yield f"first token after {evidence.first_token_seconds:.3g} s"
    if evidence.starts is not None:
        yield f"{evidence.starts} engine starts" if evidence.starts != 1 else "1 engine start"
    if evidence.soaked_requests is not None:
        bound = evidence.failure_bound
        below = "" if bound is None else f", fewer than {100 * bound:.2g} % fail with 95 % confidence"
        yield f"{evidence.soaked_requests:,} requests soaked without a failure{below}"


def _changes(evidence: EvidenceSpec, facts: Facts) -> Iterator[str]:
    here = {
        "vLLM": (evidence.engine_version, facts.engine.version),
        "the driver": (evidence.driver, facts.machine.driver_version),
        "the cards": (evidence.cards, describe_cards(facts.machine.gpus)),
    }
    for name, (then, now) in here.items():
        if then is not None and now is not None and then != now:
            yield f"{name} was {then} and is {now}"
