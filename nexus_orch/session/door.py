"""The run's front door, as far as it has one: opened before the first start, told what the attempts show."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.launch.server.ports import claim_port
from nexus_orch.launch.server.server import Server
from nexus_orch.types import MIB, Degraded, Failed, Plan, Ready, RunSpec, Verdict

if TYPE_CHECKING:
    from nexus_orch.door.front_door import FrontDoor

DEFAULT_SLOTS = 256
"""Requests at the same time where the plan leaves serve.max_num_seqs to the engine: the least of vLLM's own defaults
for a server (0.32.0, engine/arg_utils.py: get_batch_defaults)."""

_KILLED = re.compile(r"SIGKILL|SIGTERM|signal (9|15)\b|(exit|return) ?code:? -(9|15)\b")
"""In what shows a death: somebody outside ended the process, so that no request is to blame."""


class RunDoor:
    """For the thread of the session. Of a run without `serve.front_door` it is none, and nothing here does anything."""

    def __init__(self, spec: RunSpec) -> None:
        self.port: int | None = None
        """Where clients are let in; None before it is open."""
        self._spec = spec
        self._door: FrontDoor | None = None
        self._claim = ExitStack()
        self._serves = False

    def open(self, plan: Plan) -> None:
        """Let clients in on the planned port. Raises ConfigError when it was taken meanwhile."""
        serve = self._spec.serve
        if not serve.front_door or self._door is not None:
            return
        from nexus_orch.door.front_door import Address, FrontDoor  # noqa: PLC0415 - only a run with a door needs it
        from nexus_orch.door.rules import HouseRules  # noqa: PLC0415

        port = int(plan.settings["serve.port"])
        key = None if serve.api_key_env is None else os.environ.get(serve.api_key_env)
        most_bytes = self._spec.limits.body_mib * MIB
        rules = HouseRules(most_body_bytes=most_bytes, api_key=key, continues=serve.continue_streams)
        door = FrontDoor(Address(serve.host, port, self._spec.origin("serve.port")), rules)
        claim = claim_port(port)
        if claim is None:
            origin, remedy = self._spec.origin("serve.port"), "choose another serve.port, or leave it out"
            problem = Problem(f"another run takes port {port}", "serve.port", port, origin, remedy, "port_in_use")
            raise ConfigError(problem)
        self._claim.enter_context(claim)
        try:
            door.open()
        except BaseException:
            self._claim.close()
            raise
        self._door, self.port = door, port

    def start(self) -> None:
        """An attempt begins."""
        if self._door is not None:
            self._door.starting()

    def judge(self, verdict: Verdict, engine: Server, plan: Plan) -> None:
        """A new verdict on the engine."""
        match self._door, verdict:
            case None, _:
                return
            case door, Ready() if self._serves:
                door.troubled("")
            case door, Ready():
                self._serves = True
                slots = int(plan.settings.get("serve.max_num_seqs") or DEFAULT_SLOTS)
                door.ready(engine.url, slots, plan.max_model_len)
            case door, Degraded():
                door.troubled(verdict.reason)
            case door, Failed():
                reason = f"the engine {'died' if self._serves else 'did not start'} ({verdict.cause})"
                self._leave(reason, is_death=self._serves, convicts=not is_killed(verdict))

    def doubt(self) -> None:
        """A process of the engine is gone that it cannot do without."""
        if self._door is not None:
            self._door.doubted()

    def drain(self, reason: str, longest_seconds: float) -> None:
        """The engine is to be started again when it has answered what it has."""
        if self._door is not None:
            self._door.draining(reason, longest_seconds)

    def replace(self, reason: str) -> None:
        """The engine is stopped, to be started again with another plan."""
        self._leave(reason, is_death=False)

    def pause(self, seconds: float) -> None:
        """The next start comes after a pause."""
        if self._door is not None:
            self._door.pausing(seconds)

    def give_up(self, reason: str) -> None:
        """No engine comes any more: whoever waits or listens is told."""
        self._serves = False
        if self._door is not None:
            self._door.given_up(reason)

    def close(self) -> None:
        """Give the port back."""
        if self._door is not None:
            self._door.close("the server is gone")
            self._claim.close()
            self._door = None

    def _leave(self, reason: str, *, is_death: bool, convicts: bool = False) -> None:
        self._serves = False
        if self._door is not None:
            self._door.down(reason, is_death=is_death, convicts=convicts)


def is_killed(failed: Failed) -> bool:
    """Whether the evidence says that somebody outside, the kernel for one, ended a process of the engine."""
    return any(_KILLED.search(line) for line in failed.evidence)
