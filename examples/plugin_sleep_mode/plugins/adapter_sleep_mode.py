"""An example: a setting that nexus_orch does not know, and the adapter that says it to vLLM.

`plugin.sleep_mode=true` starts the server so that `POST /sleep?level=1` moves the weights to host RAM and frees the
card, and `POST /wake_up` brings them back.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch import hookimpl
from nexus_orch.adapt.generations import V2, extend
from nexus_orch.adapt.ways import Part, Way
from nexus_orch.contracts import Adapter
from nexus_orch.types import Choice, EngineFacts, Plan

SLEEP_MODE = "plugin.sleep_mode"


def guard_sleep_routes(plan: Plan, engine: EngineFacts) -> Part:
    """vLLM offers /sleep and /wake_up in its development mode only (entrypoints/, 0.22.1 to 0.33.0)."""
    if not plan.settings.get(SLEEP_MODE) or engine.device == "cpu":
        return Part()
    key = "VLLM_SERVER_DEV_MODE"
    if key in plan.spec.engine.env:
        return Part()
    reason = "without it the server has no /sleep and no /wake_up; let no stranger reach the port"
    return Part(env={key: "1"}, choices=[Choice(f"engine.env.{key}", "1", "derived", reason)])


ADAPTER = extend(
    V2,
    name="sleepy",
    versions=">=0.22",
    table={
        SLEEP_MODE: (
            Way(
                device="cpu",
                silent=(False,),
                refused="the CPU engine has no memory of its own to give back",
                instead=f"leave {SLEEP_MODE} out, or use a GPU engine",
            ),
            Way("--enable-sleep-mode", silent=(False,)),
        ),
    },
    guards=(guard_sleep_routes,),
)


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [ADAPTER]
