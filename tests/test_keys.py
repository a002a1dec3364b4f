"""A key of a run stands in several places. Whoever adds it to one and forgets another is told the file that lacks it.

| place | file |
|---|---|
| what may stand there, and what it means | `nexus_orch/compose/run.schema.json` |
| the record and its type | `nexus_orch/types/spec.py` |
| its default, so that no override needs a + | `conf/every_key.yaml` |
| its row in the reference | `docs/keys.md`, written by `python -m tools.make_key_reference` |
| how engines say it, or who else acts on it | `nexus_orch/adapt/settings.py`, else `OURS` below |
| a value that check_adapter tries | `nexus_orch/testing/samples.py` |
| whether what is learned depends on it | `nexus_orch/judge/learned/case.py` |
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.compose.planned import PLANNED_ONLY
from nexus_orch.compose.schema import core_of, holds_any_name, known_keys, types_of
from nexus_orch.judge.learned import case
from nexus_orch.testing.samples import MAY_BE_SILENT, SAMPLES
from nexus_orch.types import RunSpec
from tests.plan.cases import make_gpu, plan_of

ROOT = Path(__file__).parents[1]
SCHEMA = "nexus_orch/compose/run.schema.json"
SPEC = "nexus_orch/types/spec.py"
DEFAULTS = "conf/every_key.yaml"
REFERENCE = "docs/keys.md"
TABLE = "nexus_orch/adapt/settings.py"
TRIED = "nexus_orch/testing/samples.py"
LEARNED = "nexus_orch/judge/learned/case.py"

OURS: Mapping[str, str] = {
    "name": "nexus_orch/session/run.py",
    "hardware.name": "nexus_orch/session/run.py",
    "hardware.gpu.model": "nexus_orch/facts/machine/gpus.py",
    "hardware.gpu.count": "nexus_orch/facts/machine/gpus.py",
    "hardware.gpu.memory_mib": "nexus_orch/facts/machine/gpus.py",
    "hardware.gpu.pcie_gbps": "nexus_orch/facts/machine/gpus.py",
    "hardware.host.ram_gib": "nexus_orch/facts/machine/host.py",
    "hardware.host.reserved_gib": "nexus_orch/facts/machine/host.py",
    "hardware.host.swap_gib": "nexus_orch/facts/machine/host.py",
    "hardware.nodes": "nexus_orch/compose/unbuilt.py",
    "model.name": "nexus_orch/plan/answer/settings.py",
    "model.path": "nexus_orch/facts/model/model.py",
    "model.config": "nexus_orch/facts/model/model.py",
    "memory.strategy": "nexus_orch/plan/search/strategy.py",
    "memory.preload.enabled": "nexus_orch/plan/answer/ram_first.py",
    "memory.preload.channels": "nexus_orch/plan/answer/ram_first.py",
    "memory.reserve_host": "nexus_orch/plan/answer/ram_first.py",
    "memory.dynamic": "nexus_orch/session/run.py",
    "serve.api_key_env": "nexus_orch/adapt/guards.py",
    "serve.speculative.config": "nexus_orch/facts/draft.py",
    "serve.front_door": "nexus_orch/session/door.py",
    "serve.continue_streams": "nexus_orch/session/door.py",
    "serve.extra_args": "nexus_orch/adapt/extra_args.py",
    "engine.kind": "nexus_orch/choose.py",
    "engine.version": "plugins/engine_local.py",
    "engine.python": "plugins/engine_local.py",
    "engine.adapter": "nexus_orch/choose.py",
    "engine.env": "nexus_orch/session/prepare.py",
    "workload.concurrency": "nexus_orch/plan/asked/target.py",
    "workload.input_tokens": "nexus_orch/plan/asked/target.py",
    "workload.output_tokens": "nexus_orch/plan/asked/target.py",
    "workload.objective": "nexus_orch/plan/search/placing.py",
    "probe.question": "nexus_orch/session/attempt.py",
    "probe.max_tokens": "nexus_orch/session/attempt.py",
    "probe.then": "nexus_orch/session/attempt.py",
    "limits.startup_stall_seconds": "nexus_orch/session/attempt.py",
    "limits.stop_seconds": "nexus_orch/session/attempt.py",
    "limits.log_mib": "nexus_orch/session/attempt.py",
    "limits.attempts": "nexus_orch/session/course.py",
    "limits.deaths": "nexus_orch/session/course.py",
    "limits.adjustments": "nexus_orch/session/course.py",
    "limits.pressure_seconds": "nexus_orch/session/dynamic.py",
    "limits.drain_seconds": "nexus_orch/session/dynamic.py",
    "limits.body_mib": "nexus_orch/session/door.py",
    "evidence.engine_version": "nexus_orch/plan/answer/evidence.py",
    "evidence.driver": "nexus_orch/plan/answer/evidence.py",
    "evidence.cards": "nexus_orch/plan/answer/evidence.py",
    "evidence.date": "nexus_orch/plan/answer/evidence.py",
    "evidence.tokens_per_second": "nexus_orch/plan/answer/evidence.py",
    "evidence.concurrency": "nexus_orch/plan/answer/evidence.py",
    "evidence.first_token_seconds": "nexus_orch/plan/answer/evidence.py",
    "evidence.starts": "nexus_orch/plan/answer/evidence.py",
    "evidence.soaked_requests": "nexus_orch/plan/answer/evidence.py",
    "evidence.failure_bound": "nexus_orch/plan/answer/evidence.py",
    "sweep.launches": "nexus_orch/sweep/run/order.py",
    "sweep.confirmations": "nexus_orch/sweep/run/order.py",
    "sweep.minutes": "nexus_orch/sweep/run/order.py",
    "sweep.objective": "nexus_orch/sweep/run/order.py",
    "sweep.constraints.first_token_seconds": "nexus_orch/sweep/run/order.py",
    "sweep.constraints.max_model_len": "nexus_orch/sweep/run/order.py",
    "sweep.failure_bound": "nexus_orch/sweep/run/order.py",
    "sweep.client": "nexus_orch/sweep/run/worker.py",
    "sweep.measure_requests": "nexus_orch/sweep/run/worker.py",
    "sweep.soak_minutes": "nexus_orch/sweep/run/worker.py",
    "sweep.soak_requests": "nexus_orch/sweep/run/worker.py",
    "sweep.resume": "nexus_orch/sweep/run/resume.py",
    "plugin": "nexus_orch/plan/answer/settings.py",
}
"""Keys that no option of an engine says, each with the file that acts on it."""


def _forgotten(file: str, why: str, keys: Iterable[str]) -> list[str]:
    """One sentence for each key that a file lacks."""
    return [f"{key} is not in {file}: {why}" for key in sorted(keys)]


def _leaves(record: type, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The values of a spec with their types and defaults; sections are walked through."""
    hints = typing.get_type_hints(record)
    for field in dataclasses.fields(record):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _leaves(hint, f"{key}.")
        elif key != "origins":
            factory = field.default_factory
            yield key, hint, field.default if factory is dataclasses.MISSING else factory()


SPEC_TYPES = {key: hint for key, hint, _ in _leaves(RunSpec)}
SPEC_DEFAULTS = {key: default for key, _, default in _leaves(RunSpec)}
SCHEMA_KEYS = {key: schema for key, schema in known_keys().items() if "properties" not in schema}


def _yaml_leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and not (key in SCHEMA_KEYS and holds_any_name(key)):
            yield from _yaml_leaves(value, f"{key}.")
        else:
            yield key, value


WRITTEN = {
    key: value
    for key, value in _yaml_leaves(yaml.safe_load((ROOT / DEFAULTS).read_text(encoding="utf-8")))
    if key.partition(".")[0] not in ("defaults", "hydra")
}


def test_schema_record_and_defaults_have_the_same_keys() -> None:
    known = SCHEMA_KEYS.keys() | SPEC_TYPES.keys() | WRITTEN.keys()
    told = _forgotten(SCHEMA, "it says what may stand there", known - SCHEMA_KEYS.keys())
    told += _forgotten(SPEC, "the run would not know it", known - SPEC_TYPES.keys())
    told += _forgotten(DEFAULTS, "an override of it would need a +", known - WRITTEN.keys())
    assert not told, "\n".join(told)


def test_the_reference_has_a_row_for_each_key() -> None:
    rows = re.findall(r"^\| `([\w.]+)` ", (ROOT / REFERENCE).read_text(encoding="utf-8"), re.MULTILINE)
    told = _forgotten(REFERENCE, "python -m tools.make_key_reference writes it", SCHEMA_KEYS.keys() - set(rows))
    assert not told, "\n".join(told)


JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array", Mapping: "object"}


def _json_types(hint: Any) -> set[str]:
    """What a field holds, in the words of the schema, None aside."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    origins = (typing.get_origin(part) or part for part in parts if part is not type(None))
    return {JSON_TYPES[origin if origin in JSON_TYPES else Mapping] for origin in origins}


@pytest.mark.parametrize("key", sorted(SCHEMA_KEYS.keys() & SPEC_TYPES.keys()))
def test_schema_and_record_mean_the_same_type(key: str) -> None:
    schema = SCHEMA_KEYS[key]
    words = {type(choice) for choice in core_of(schema).get("enum", ())} - {type(None)}
    allowed = set(types_of(schema)) - {"null"} or {JSON_TYPES[word] for word in words if word is not bool}
    assert _json_types(SPEC_TYPES[key]) == allowed, f"{key} has one type in {SCHEMA} and another one in {SPEC}"


@pytest.mark.parametrize("key", sorted(WRITTEN.keys() & SPEC_DEFAULTS.keys()))
def test_defaults_file_and_record_have_the_same_default(key: str) -> None:
    written, default = WRITTEN[key], SPEC_DEFAULTS[key]
    if default is dataclasses.MISSING or (isinstance(default, str) and written is None):
        return  # a name: that of the profile stands in
    default = list(default) if isinstance(default, tuple) else default
    assert written == default or (written is None and not default), (
        f"{key} has the default {written!r} in {DEFAULTS} and {default!r} in {SPEC}"
    )


def test_each_key_is_said_to_engines_or_acted_on_by_us() -> None:
    table = SETTINGS.keys() - PLANNED_ONLY.keys()
    told = [
        f"{key} is neither in {TABLE} (how engines say it) nor in OURS of tests/test_keys.py (what acts on it instead)"
        for key in sorted(SCHEMA_KEYS.keys() - table - OURS.keys())
    ]
    told += [f"{key} is in {TABLE} and in OURS of tests/test_keys.py" for key in sorted(table & OURS.keys())]
    told += [f"{key} is in {TABLE} and is no key of {SCHEMA}" for key in sorted(table - SCHEMA_KEYS.keys())]
    told += [f"{key} is in OURS and is no key of {SCHEMA}" for key in sorted(OURS.keys() - SCHEMA_KEYS.keys())]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("key", sorted(OURS))
def test_who_is_said_to_act_on_a_key_names_it(key: str) -> None:
    text = (ROOT / OURS[key]).read_text(encoding="utf-8")
    assert re.search(rf"\b{key.rpartition('.')[2]}\b", text), f"{OURS[key]} does not act on {key}, as OURS says"


def test_each_setting_of_an_engine_is_tried() -> None:
    told = _forgotten(TRIED, "check_adapter would never try it", SETTINGS.keys() - SAMPLES.keys())
    told += _forgotten(TABLE, f"{TRIED} tries it", (SAMPLES.keys() | MAY_BE_SILENT) - SETTINGS.keys())
    told += [f"the sample of {key} in {TRIED} lacks {key}" for key, sample in SAMPLES.items() if key not in sample]
    assert not told, "\n".join(told)


CONDITIONS = {
    key for key in (*case.PLACE, *case.KERNELS, *case.BATCH, case.CONTEXT, *case.CPU_CACHE) if "." in key
}  # the others, such as `offload`, are put together of several


def test_of_each_setting_it_is_said_whether_measured_quantities_depend_on_it() -> None:
    judged = CONDITIONS | case.INDIFFERENT.keys()
    why = "name it among the conditions of what is learned, or in INDIFFERENT with the reason"
    told = _forgotten(LEARNED, why, SETTINGS.keys() - judged)
    told += [f"{key} is in {LEARNED} and not in {TABLE}" for key in sorted(judged - SETTINGS.keys())]
    told += [
        f"{key} is a condition and in INDIFFERENT ({LEARNED})" for key in sorted(CONDITIONS & case.INDIFFERENT.keys())
    ]
    assert not told, "\n".join(told)


def test_what_only_the_planner_sets_is_no_key() -> None:
    told = [f"{key} is in {SCHEMA} and in PLANNED_ONLY" for key in PLANNED_ONLY if key in SCHEMA_KEYS]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("key", sorted((SETTINGS.keys() & SCHEMA_KEYS.keys()) - {"hardware.gpu.devices"}))
def test_the_planner_hands_on_what_is_pinned_or_refuses_it(key: str) -> None:
    """Nothing is silently ignored. (The cards of a run are chosen while the machine is read.)"""
    pins = {name: value for name, value in SAMPLES[key].items() if name in SCHEMA_KEYS}
    plan = plan_of("Qwen/Qwen2.5-7B-Instruct", make_gpu(), make_gpu(), settings=pins)
    told = {choice.key for choice in plan.choices} | {problem.key for problem in plan.problems}
    is_noted = any(key in note for note in plan.notes)  # of no use for this run, which is said
    assert key in told or is_noted, (
        f"{key} is pinned, and the plan has no word of it: nexus_orch/plan/answer/settings.py"
    )
