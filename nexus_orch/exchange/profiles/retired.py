"""Options and variables that can be left out without a loss on releases that no longer have them.

Most are known to `nexus_orch.adapt.substitutes`, as those that it advises to leave out; here are the others. Sources:
the options of the known releases (`nexus_orch/data/vllm_flags.json`) and the help texts of the last release that had
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexus_orch.adapt.substitutes import find_substitute
from nexus_orch.adapt.ways import V1_VARIABLE
from nexus_orch.releases.engine import v0_on_request, v1_only
from nexus_orch.releases.known import known_releases
from nexus_orch.types import EngineFacts

_LEAVE_OUT = "leave it out: "
_BACKEND_OPTION = "--attention-backend"


@dataclass(frozen=True)
class Retired:
    """Why an option is no longer needed; only for these `values`, when there are any."""

    reason: str
    values: tuple[str, ...] = ()


RETIRED: dict[str, Retired] = {
    "--task": Retired("a model that generates text is served so by itself", ("auto", "generate")),
    "--scheduler-delay-factor": Retired("it belonged to the V0 engine"),
    "--max-context-len-to-capture": Retired("graphs are captured by the size of a batch"),
    "--tokenizer-pool-size": Retired("tokenizers no longer run in a pool"),
    "--tokenizer-pool-type": Retired("tokenizers no longer run in a pool"),
}


def find_retired(engine: EngineFacts, name: str, values: Sequence[str]) -> str | None:
    """Why an option that this engine lacks can be left out, None when it cannot."""
    retired = RETIRED.get(name)
    if retired is not None:
        return retired.reason if not retired.values or set(values) <= set(retired.values) else None
    advice = find_substitute(engine, name) or ""
    return advice.removeprefix(_LEAVE_OUT) if advice.startswith(_LEAVE_OUT) else None


def find_retired_variable(engine: EngineFacts, name: str) -> str | None:
    """Why a variable says nothing to this engine, None when it does."""
    if name == V1_VARIABLE and v1_only(engine.version):
        last = [release for release in known_releases() if v0_on_request(release)][-1]
        return f"there is only the V1 engine; --release {last} is the last with both"
    if name == "VLLM_ATTENTION_BACKEND" and engine.flag(_BACKEND_OPTION) is not None:
        return f"releases that have {_BACKEND_OPTION} no longer read this variable"
    return None
