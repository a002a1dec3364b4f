"""The words of every release for every shipped model profile, as files that are checked in.

A change of them is a change of what engines are told: `python -m tests.adapt.golden` writes the files anew, and the
difference in git is what to read. Numbers that the planner works out stand as N, so that the files tell what the
adapters do and not how much memory a model takes. Profiles with the same words share a line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from nexus_orch import shipped
from nexus_orch.adapt.arguments import read_arguments
from nexus_orch.compose.run import compose_run
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.model.model import read_model
from nexus_orch.releases.known import known_releases
from nexus_orch.session.prepare import Preparation, make_preparation, read_facts
from nexus_orch.types import Facts, ModelSpec, RunSpec
from tests.plugins.plans import shipped_plugins

FOLDER = Path(__file__).parent / "golden"

MODELS = tuple(sorted(file.stem for file in (shipped.conf_dir() / "model").glob("*.yaml") if file.stem != "local"))
"""Every shipped model profile but `local`, which names none."""

LARGER_THAN_A_CARD = ("gemma3_27b", "gpt_oss_20b", "mixtral8x7b", "qwen14b", "qwen32b_awq", "qwen3_30b_a3b")
ON_THE_CPU = ("llama8b", "qwen0_5b", "smollm2_135m", "smollm3_3b")

MACHINES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "h200x8": (("hardware=h200x8",), MODELS),
    "rtx4090": (("hardware=rtx4090", "hardware.host.ram_gib=192"), LARGER_THAN_A_CARD),
    "cpu": (("hardware=cpu", "hardware.host.ram_gib=64"), ON_THE_CPU),
}
"""Machines by name: how they are composed, and the models that are planned on them."""


@dataclass(frozen=True)
class Planned:
    """One model on one machine, planned for one release."""

    machine: str
    model: str
    preparation: Preparation


@cache
def _machine(name: str) -> tuple[RunSpec, Facts]:
    """A run on that machine and its facts; the model is put in later, which Hydra would compose for each of them."""
    spec = compose_run(["model=qwen7b", *MACHINES[name][0]])
    return spec, read_facts(spec, shipped_plugins())[0]


@cache
def _with_model(machine: str, model: str) -> tuple[RunSpec, Facts]:
    spec, facts = _machine(machine)
    profile = yaml.load((shipped.conf_dir() / "model" / f"{model}.yaml").read_bytes(), Loader=yaml.CSafeLoader)
    spec = replace(spec, model=ModelSpec(**{**profile, "path": profile.get("path") or f"hub/{model}"}))
    return spec, replace(facts, model=read_model(spec.model, {}))


def plan_profiles(release: str) -> Iterator[Planned]:
    """Every shipped model profile, planned for that release."""
    plugins = shipped_plugins()
    provider = plugins.engines()["local"]
    for machine, (_, models) in MACHINES.items():
        engine = make_assumed_engine(release, cpu=machine == "cpu")
        for model in models:
            spec, facts = _with_model(machine, model)
            facts = replace(facts, engine=engine)
            yield Planned(machine, model, make_preparation(spec, facts, provider, plugins, uses_learned=False))


def render_golden(release: str, planned: list[Planned]) -> str:
    """The content of the release's file."""
    lines = [
        f"# vLLM {release}: what it is told for each shipped model profile. N: a number that the planner works out.",
        "# Written by `python -m tests.adapt.golden`.",
    ]
    for machine in MACHINES:
        models: dict[str, list[str]] = {}
        for case in planned:
            if case.machine == machine:
                models.setdefault(_render_words(case.preparation), []).append(case.model)
        lines += ["", f"[{machine}]"]
        for words, names in sorted(models.items()):
            lines += [words, f"    {' '.join(names)}"]
    return "\n".join(lines) + "\n"


def _render_words(preparation: Preparation) -> str:
    """Refusals, or variables and words with N for derived numbers and NAME for what each profile calls itself."""
    rendering, plan = preparation.rendering, preparation.plan
    if rendering.problems:
        return "refused: " + "; ".join(f"{problem.key}: {problem.message}" for problem in rendering.problems)
    words = [f"{name}={value}" for name, value in sorted(rendering.env.items())]
    words += ["serve", "MODEL"] if rendering.argv[0] == "serve" else ["--model", "MODEL"]
    for given in read_arguments(rendering.argv[2:], preparation.facts.engine).options:
        choice = plan.choice(rendering.said.get(given.name, ""))
        is_derived = choice is not None and choice.origin != "pinned" and isinstance(choice.value, int | float)
        if given.name == "--served-model-name":
            words += [given.name, "NAME"]
        else:
            words += [given.name, *(["N"] if given.values and is_derived else given.values)]
    return " ".join(words)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for release in known_releases():
        file = FOLDER / f"vllm-{release}.txt"
        file.write_text(render_golden(release, list(plan_profiles(release))), encoding="utf-8")
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
