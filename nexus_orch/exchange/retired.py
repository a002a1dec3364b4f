"""Options and variables that can be left out without a loss on releases that no longer have them, or ignore them.

Sources: the options of 21 releases (`nexus_orch/data/vllm_flags.json`), and for what they did the help texts of the
last release that had them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.ways import V1_VARIABLE
from nexus_orch.facts.flags_catalogue import release_of


@dataclass(frozen=True)
class Retired:
    """`since`: the releases on which leaving it out changes nothing; only for these `values`, when there are any."""

    since: str
    reason: str
    values: tuple[str, ...] = ()


_V0_ONLY = "it belonged to the V0 engine"

RETIRED: dict[str, Retired] = {
    "--disable-log-requests": Retired(">=0.10.2", "requests are not logged unless --enable-log-requests asks for it"),
    "--use-v2-block-manager": Retired(">=0.7", "there is no other block manager any more"),
    "--device": Retired(">=0.10", "the build of vLLM decides", ("auto", "cuda", "cpu")),
    "--task": Retired(">=0.10.2", "a model that generates text is served so by itself", ("auto", "generate")),
    "--engine-use-ray": Retired(">=0.6", "it was never needed for serving"),
    "--disable-frontend-multiprocessing": Retired(">=0.19", "the V1 engine always has a process of its own"),
    "--disable-async-output-proc": Retired(">=0.11", _V0_ONLY),
    "--num-scheduler-steps": Retired(">=0.10", f"{_V0_ONLY}; V1 schedules without it"),
    "--multi-step-stream-outputs": Retired(">=0.10", _V0_ONLY),
    "--preemption-mode": Retired(">=0.11", f"{_V0_ONLY}; V1 always recomputes"),
    "--scheduler-delay-factor": Retired(">=0.11", _V0_ONLY),
    "--num-lookahead-slots": Retired(">=0.12", _V0_ONLY),
    "--max-seq-len-to-capture": Retired(">=0.11", "CUDA graphs are captured by batch size now"),
    "--max-context-len-to-capture": Retired(">=0.6", "CUDA graphs are captured by batch size now"),
    "--enable-reasoning": Retired(">=0.10", "--reasoning-parser alone does it"),
    "--tokenizer-pool-size": Retired(">=0.10", "tokenizers no longer run in a pool"),
    "--tokenizer-pool-type": Retired(">=0.10", "tokenizers no longer run in a pool"),
}

RETIRED_VARIABLES: dict[str, Retired] = {
    V1_VARIABLE: Retired(">=0.11", "there is only the V1 engine; --release 0.10.2 is the last with both"),
}


def find_retired_variable(name: str, version: str) -> str | None:
    """Why the variable can be left out on this release, None when it cannot."""
    retired = RETIRED_VARIABLES.get(name)
    return retired.reason if retired is not None and _is_since(retired, version) else None


def _is_since(retired: Retired, version: str) -> bool:
    return SpecifierSet(retired.since).contains(release_of(version), prereleases=True)


def find_retired(name: str, values: Sequence[str], version: str) -> str | None:
    """Why the option can be left out on this release, None when it cannot."""
    retired = RETIRED.get(name)
    if retired is None or not _is_since(retired, version):
        return None
    if retired.values and not set(values) <= set(retired.values):
        return None
    return retired.reason
