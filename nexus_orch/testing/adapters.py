"""The promises of an adapter, tried out: for the tests of plugins that bring one.

from nexus_orch.testing import check_adapter

def test_my_adapter_keeps_its_promises():
    check_adapter(MY_ADAPTER, settings={"plugin.sleep_mode": True})
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.render import TableAdapter
from nexus_orch.contracts import Adapter, Rendering
from nexus_orch.errors import NexusError, Problem
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.releases.known import known_releases
from nexus_orch.testing.plans import MODEL_PATH, make_settings_plan
from nexus_orch.testing.samples import MAY_BE_SILENT, SAMPLES
from nexus_orch.testing.words import find_illegal_words
from nexus_orch.types import Device, EngineFacts, Plan


def check_adapter(
    adapter: Adapter,
    *,
    settings: Mapping[str, Any] | None = None,
    devices: Sequence[Device] = ("cuda", "cpu"),
    releases: Sequence[str] | None = None,
) -> None:
    """Raise AssertionError with every promise that the adapter breaks.

    `settings` are those that it adds, each with a value that asks for something. `releases` are tried instead of all
    known ones in the adapter's range.
    """
    broken = list(dict.fromkeys(find_broken_promises(adapter, settings or {}, devices, releases)))
    assert not broken, f"the adapter {adapter.name} breaks {len(broken)} promises:\n" + "\n".join(broken)


def find_broken_promises(
    adapter: Adapter, settings: Mapping[str, Any], devices: Sequence[Device], releases: Sequence[str] | None = None
) -> Iterator[str]:
    """Each broken promise in one line: release, device, setting, and what is wrong."""
    if not isinstance(adapter.versions, SpecifierSet):
        yield f"versions is {adapter.versions!r}, no packaging SpecifierSet"
        return
    known = [release for release in known_releases() if adapter.versions.contains(release, prereleases=True)]
    chosen = list(releases) if releases is not None else known
    if not chosen:
        yield f"no known release is in {adapter.versions}: name some with releases=[...]"
    samples = {**SAMPLES, **{key: {key: value} for key, value in settings.items()}}
    table = adapter.table if isinstance(adapter, TableAdapter) else {}
    for key in sorted(table.keys() - samples.keys()):
        yield f"{key}: no value of it is tried: settings={{{key!r}: VALUE}}"
    for release in chosen:
        for device in devices:
            trial = _Trial(adapter, make_assumed_engine(release, cpu=device == "cpu"))
            yield from (f"vLLM {release} on {device}: {broken}" for broken in trial.run(samples))


@dataclass(frozen=True)
class _Trial:
    """One adapter on one engine."""

    adapter: Adapter
    engine: EngineFacts

    def run(self, samples: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        for key, sample in samples.items():
            yield from (f"{key}: {broken}" for broken in self._try_setting(key, sample))
        checks = (
            self._try_model,
            self._try_secret,
            self._try_variable,
            self._try_unknown_setting,
            self._try_extra_args,
        )
        for check in checks:
            yield from check()

    def _try_setting(self, key: str, sample: Mapping[str, Any]) -> Iterator[str]:
        pinned = make_settings_plan(sample)
        for plan in (pinned, make_settings_plan(sample, "derived")):
            rendering = yield from self._render(plan)
            if rendering is None:
                return
            yield from find_illegal_words(rendering.argv, self.engine)
            yield from self._judge_origin(plan, rendering)
        without = yield from self._render(make_settings_plan({k: v for k, v in sample.items() if k != key}))
        said = yield from self._render(pinned)
        if said is None or without is None:
            return
        is_refused = said.problems != without.problems  # what is refused without it, too, is another setting
        is_said = (said.argv, said.env) != (without.argv, without.env)
        if not (is_said or is_refused or key in MAY_BE_SILENT):
            yield f"pinned to {sample[key]}, it is neither said nor refused"

    def _judge_origin(self, plan: Plan, rendering: Rendering) -> Iterator[str]:
        """A pinned setting is never changed, a derived one never stops the run."""
        origins = {choice.key: choice.origin for choice in plan.choices}
        for choice in rendering.choices:
            if origins.get(choice.key) == "pinned":
                yield f"the pinned {choice.key} is changed to {choice.value}"
            if not choice.reason:
                yield f"the choice of {choice.key} has no reason"
        for problem in rendering.problems:
            yield from _judge_problem(problem)
            if origins.get(problem.key or "") == "derived":
                yield f"the derived {problem.key} stops the run: {problem.message}"

    def _try_model(self) -> Iterator[str]:
        rendering = yield from self._render(make_settings_plan({}))
        if rendering is not None and MODEL_PATH not in rendering.argv:
            yield "the model is not named"

    def _try_secret(self) -> Iterator[str]:
        rendering = yield from self._render(make_settings_plan({"serve.api_key_env": "MY_KEY"}))
        if rendering is None:
            return
        if "MY_KEY" not in rendering.secret_env.values():
            yield "serve.api_key_env: secret_env does not copy the variable that holds the key"
        if not rendering.secret_env.keys() <= rendering.secrets:
            yield "serve.api_key_env: the engine's variable is not among the secrets"

    def _try_variable(self) -> Iterator[str]:
        key = "engine.env.NO_VARIABLE_OF_VLLM"
        rendering = yield from self._render(make_settings_plan({key: "1"}, "derived"))
        if rendering is not None and rendering.env.get("NO_VARIABLE_OF_VLLM") != "1":
            yield f"{key}: a variable that the plan sets is not handed on"

    def _try_unknown_setting(self) -> Iterator[str]:
        key = "plugin.no_such_setting"
        rendering = yield from self._render(make_settings_plan({key: True}))
        if rendering is not None and key not in {problem.key for problem in rendering.problems}:
            yield f"{key}: a setting that it does not know is not refused"

    def _try_extra_args(self) -> Iterator[str]:
        passed = yield from self._render(make_settings_plan({}, extra_args=["--seed", "7"]))
        if passed is not None and (passed.argv[-2:] != ("--seed", "7") or passed.problems):
            yield "serve.extra_args: --seed 7 is not handed on at the end"
        unknown = yield from self._render(make_settings_plan({}, extra_args=["--no-such-option"]))
        if unknown is not None and not any(problem.cause == "unrecognized_argument" for problem in unknown.problems):
            yield "serve.extra_args: an unknown option has no problem with the cause unrecognized_argument"

    def _render(self, plan: Plan) -> Generator[str, None, Rendering | None]:
        """The rendering, the same twice; None after an error, which is told."""
        try:
            first, second = (self.adapter.render(plan, self.engine) for _ in range(2))
        except NexusError as error:
            yield f"render raises {error!r}: a problem belongs into the rendering"
            return None
        if first != second:
            yield "the same plan is rendered in two ways"
        return first


def _judge_problem(problem: Problem) -> Iterator[str]:
    if not problem.key or not problem.remedy:
        yield f"the problem '{problem.message}' has no {'remedy' if problem.key else 'key'}"
