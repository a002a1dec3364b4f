"""An imported profile, composed and planned before it is written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nexus_orch.adapt.effects import tell_uncounted
from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ConfigError, NexusError, Problem
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.start import Note
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plan.answer.unused import ENGINE_SETTINGS
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.types import Choice, EngineFacts, RunSpec

_ONLY_TASTE = frozenset(
    {"model.max_model_len", "model.quantization", "serve.tensor_parallel", "serve.pipeline_parallel"}
)
"""What a command pins for reasons of its own: no news that the planner would do it otherwise."""


_LEFT_TO_THE_PLANNER = {
    "model.max_model_len": "--max-model-len",
    "memory.gpu_memory_utilization": "--gpu-memory-utilization",
    "serve.max_num_seqs": "--max-num-seqs",
    "serve.max_num_batched_tokens": "--max-num-batched-tokens",
}
"""Settings that decide memory and speed, with the options that say them."""
_NEEDED = frozenset({"model.path", "model.served_name", "model.dtype", "serve.host", "serve.port"})
"""What every start says, and says no other than vLLM would."""


def check_profile(text: str, name: str, project: Path | None, *, shown: str) -> RunSpec:
    """The run that the profile means, composed from a copy of it over the project's files.

    Raises ConfigError with all that is wrong; `shown` stands for the profile's file in it.
    """
    has_conf = project is not None and (project / "conf").is_dir()
    with tempfile.TemporaryDirectory(prefix="nexus-import-") as folder:
        conf = Path(folder).resolve() / "conf"
        trial = f"imported_{name}"
        (conf / "profile").mkdir(parents=True)
        (conf / "profile" / f"{trial}.yaml").write_text(text, encoding="utf-8")
        try:
            return compose_run(
                [f"profile={trial}"],
                project=project if has_conf else None,
                plugin_conf_dirs=[conf],
                judge=_plugins_of(project).judge,
            )
        except ConfigError as error:
            copy = str(conf / "profile" / f"{trial}.yaml")
            raise ConfigError(*(_renamed(problem, copy, shown) for problem in error.problems)) from error


def _plugins_of(project: Path | None) -> Plugins:
    """The plugins of the project that the profile goes to, which may not be there yet."""
    return load_plugins(project if project is not None and project.is_dir() else None)


def _renamed(problem: Problem, copy: str, shown: str) -> Problem:
    origin = problem.origin.replace(copy, shown) if problem.origin else problem.origin
    return replace(problem, message=problem.message.replace(copy, shown), origin=origin)


def find_differences(spec: RunSpec, imported: Imported, project: Path | None) -> list[Note]:
    """What `nexus plan` says about the run, and what it would choose in place of pinned settings, as far as facts are
    there: a model or cards that this machine does not have cannot be planned. What the command leaves out is told with
    what vLLM would do."""
    plugins = _plugins_of(project)
    is_cpu = imported.groups.get("hardware") == "cpu"
    engine = make_assumed_engine(spec.engine.version, cpu=is_cpu)
    uncounted = [_note(text) for text in tell_uncounted(spec, engine)]
    left = [_note(text) for text in _left_open(imported, engine)]
    try:
        facts, provider = read_facts(spec, plugins)
    except NexusError as error:
        return [_note(f"not planned here: {error.problems[0].message}"), *left, *uncounted]
    if not facts.machine.gpus and "hardware" not in imported.groups:
        nowhere = "not planned here: this machine has no GPU; name one that has: hardware=rtx4090"
        return [_note(nowhere), *left, *uncounted]
    prepared = make_preparation(spec, facts, provider, plugins)
    plan = prepared.plan
    if not plan.fits:
        problems = plan.problems or (Problem("it does not fit"),)
        refused = [_note(f"`nexus plan` refuses it: {problem.message}{_remedy(problem)}") for problem in problems]
        return [*refused, *left, *uncounted]
    chosen = [_note(text) for text in _chosen(prepared, imported)]
    free = spec
    pinned = [key for key in ENGINE_SETTINGS if key in imported.settings and key not in _ONLY_TASTE]
    for key in pinned:
        free = free.with_value(key, None)
    alone = make_preparation(free, facts, provider, plugins).plan
    fits = _note(f"it fits: {plan.kv_cache_tokens:,} tokens of KV cache, context {plan.max_model_len:,}")
    compared = [_note(text) for text in _compare(pinned, plan.choices, alone.choices)]
    return [fits, *chosen, *compared, *uncounted]


def _left_open(imported: Imported, engine: EngineFacts) -> list[str]:
    """One sentence for each setting that the command leaves out and the planner will choose."""
    if engine.device == "cpu":
        return []
    return [
        f"{_left(key, imported)}: the planner will choose it; vLLM {engine.version} takes "
        f"{_default(option, engine, imported.opened.get(key))}"
        for key, option in _LEFT_TO_THE_PLANNER.items()
        if key not in imported.settings
    ]


def _left(key: str, imported: Imported) -> str:
    """How the command says nothing about a setting: in no word, or in one that leaves it open."""
    return f"{imported.opened[key]} leaves {key} open" if key in imported.opened else f"{key} is left out"


def _default(option: str, engine: EngineFacts, opened: str | None = None) -> str:
    """What vLLM does without the option, or with the word that leaves it open."""
    flag = engine.option(option)
    if option == "--max-model-len" and opened is not None:
        return "the longest context that the KV cache holds"
    if option == "--max-model-len":
        return "the model's longest context, and stops where that does not fit"
    return f"{flag.default}" if flag is not None and flag.default is not None else "what suits the card"


def _chosen(prepared: Preparation, imported: Imported) -> list[str]:
    """One sentence for each option that the plan says and the command does not, where vLLM would do otherwise."""
    engine, found = prepared.facts.engine, []
    for option, key in prepared.rendering.said.items():
        choice, flag = prepared.plan.choice(key), engine.flag(option)
        if key in imported.settings or key in _NEEDED or choice is None or flag is None or choice.value == flag.default:
            continue
        default = _default(option, engine, imported.opened.get(key))
        found.append(f"{_left(key, imported)}: {choice.value} ({choice.reason}); vLLM takes {default}")
    return found


def _remedy(problem: Problem) -> str:
    return f" (remedy: {problem.remedy})" if problem.remedy else ""


def _compare(pinned: Sequence[str], ours: Sequence[Choice], others: Sequence[Choice]) -> list[str]:
    """One sentence for each pinned setting that the planner alone would have chosen differently."""
    written = {choice.key: choice.value for choice in ours}
    chosen = {choice.key: choice for choice in others}
    return [
        f"{key} = {written[key]} as written; the planner alone: {chosen[key].value} ({chosen[key].reason})"
        for key in pinned
        if key in written and key in chosen and chosen[key].value != written[key]
    ]


def _note(text: str) -> Note:
    return Note("plan", text)
