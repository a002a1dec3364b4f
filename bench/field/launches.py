"""Launches that people published against their plans: verdicts, the error of the KV cache, and how often the printed
range holds the real one.

    python -m bench.field launches            those of tests/data/field
    python -m bench.field.launches FOLDER     others, in the same form: launches.json and configs/

What a launch left open was vLLM's own default.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.machine.catalogue import describe_card, find_gpu
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.types import GIB, Facts, GpuFacts, Plan, RunSpec
from nexus_orch.view.words import render_columns
from tests.plan.cases import LOADERS, config_of, kv_gib, make_facts, make_spec

DATA = Path(__file__).parent.parent.parent / "tests" / "data" / "field"
HOST_GIB = 512
MEDIAN_WITHIN, NINE_OF_TEN_WITHIN, COVERED = 0.03, 0.10, 0.9
PRINTED = 0.005
"""Half of the last digit that vLLM prints, in GiB."""


@dataclass(frozen=True)
class Result:
    """One launch with its plan. `problem` says why there is no plan, or why it does not fit."""

    launch: Mapping[str, Any]
    plan: Plan | None
    problem: str

    @property
    def fits(self) -> bool | None:
        return None if self.plan is None else self.plan.fits

    @property
    def is_right(self) -> bool:
        """Whether the launch was said to start, or to fail, as it did."""
        return self.fits is not None and self.fits != self.launch["failed"]

    @property
    def measured_gib(self) -> float | None:
        """The KV cache that was left, where there was one."""
        found: float | None = self.launch["measured"].get("kv_cache_gib")
        return found if found is not None and found > 0 else None

    @property
    def planned_gib(self) -> float | None:
        return None if self.plan is None else kv_gib(self.plan)

    @property
    def error(self) -> float | None:
        """Planned over measured, less one: of the bytes, else of the tokens where only these were printed."""
        measured, planned = self.measured_gib, self.planned_gib
        if planned is not None and measured is not None:
            return planned / measured - 1
        tokens = self.launch["measured"].get("kv_tokens")
        return self.plan.kv_cache_tokens / tokens - 1 if self.plan is not None and tokens else None

    @property
    def is_covered(self) -> bool | None:
        """Whether the printed range holds the real KV cache: by its tokens, else by its bytes. None without either."""
        if self.plan is None:
            return None
        tokens = self.launch["measured"].get("kv_tokens")
        prediction = self.plan.prediction
        low, high = prediction.kv_cache_tokens_low, prediction.kv_cache_tokens_high
        if low is None or high is None:
            return None
        slack = 0.0
        if not tokens:
            if self.measured_gib is None or not self.plan.kv_cache_tokens or not self.plan.per_gpu[0].kv_cache_bytes:
                return None
            each = self.plan.per_gpu[0].kv_cache_bytes / self.plan.kv_cache_tokens
            tokens, slack = self.measured_gib * GIB / each, PRINTED * GIB / each
        return bool(low <= tokens + slack and tokens - slack <= high)


def read_launches(folder: Path = DATA) -> tuple[Mapping[str, Any], ...]:
    """The launches of a folder, each with the content of its model's config.json."""
    rows = json.loads((folder / "launches.json").read_text(encoding="utf-8"))
    return tuple({**row, "model": _read_config(folder, row)} for row in rows)


def _read_config(folder: Path, row: Mapping[str, Any]) -> Mapping[str, Any]:
    if "config_of" in row:
        quantized = {key: row[key] for key in ("quantization_config",) if key in row}
        return {**config_of(row["config_of"]), **quantized}
    found: Mapping[str, Any] = json.loads((folder / "configs" / row["config"]).read_text(encoding="utf-8"))
    return found


def measure(launch: Mapping[str, Any]) -> Result:
    """The plan of one launch, or why there is none."""
    try:
        plan = plan_launch(launch)
    except ConfigError as error:
        return Result(launch, None, error.problems[0].message)
    problem = "" if plan.fits else plan.problems[0].message
    return Result(launch, plan if plan.per_gpu else None, problem)


def plan_launch(launch: Mapping[str, Any]) -> Plan:
    """The plan of a launch with its own settings. Raises ConfigError where its model cannot be planned."""
    facts = make_launch_facts(launch)
    return make_plan(make_launch_spec(launch, facts), facts, LOADERS)


def make_launch_facts(launch: Mapping[str, Any]) -> Facts:
    """The cards of the catalogue, with the sizes that were printed where they were."""
    gpus = [_make_card(launch)] * launch["cards"]
    return make_facts(launch["model"], *gpus, version=launch["vllm"], ram_gib=HOST_GIB)


def _make_card(launch: Mapping[str, Any]) -> GpuFacts:
    known = find_gpu(launch["card"])
    if known is None:
        raise ConfigError(Problem("this card is not in the catalogue", key="hardware.gpu.model", value=launch["card"]))
    card = describe_card(known)
    total = int(launch["card_gib"] * GIB) if "card_gib" in launch else card.total_bytes
    return replace(card, total_bytes=total, free_bytes=int(launch["free_gib"] * GIB) if "free_gib" in launch else total)


def make_launch_spec(launch: Mapping[str, Any], facts: Facts) -> RunSpec:
    """Everything pinned: what was left open, to the release's default."""
    settings = {**launch["settings"], "engine.env": launch.get("env", {})}
    settings["memory.strategy"] = "hybrid" if "memory.cpu_offload_gib" in settings else "vram_only"
    if "args" in launch:
        settings["serve.extra_args"] = tuple(launch["args"])
    inputs = read_inputs(make_spec(settings), facts, ())
    generation, gpu = inputs.generation(), facts.machine.gpus[0]
    tokens, requests = default_batching(gpu.total_bytes, gpu.name, generation, launch["cards"])
    settings.setdefault("serve.max_num_batched_tokens", tokens)
    settings.setdefault("serve.max_num_seqs", requests)
    settings.setdefault("model.max_model_len", inputs.architecture.longest_context)
    settings.setdefault("memory.gpu_memory_utilization", generation.default_utilization)
    return make_spec(settings)


def main(folder: Path = DATA) -> int:
    """Print the table and the scores; the number of missed goals."""
    results = [measure(launch) for launch in read_launches(folder)]
    sys.stdout.write(render_results(results))
    text, missed = render_scores(results)
    sys.stdout.write(text)
    return missed


def render_results(results: Sequence[Result]) -> str:
    """One line for each launch: real against planned, GiB on each card."""
    header = (
        *("launch", "kind", "vLLM", "started", "planned", "weights", "real", "KV cache", "real", "error"),
        *("tokens", "real", "range", "held"),
    )
    return render_columns(header, [_row(result) for result in results], right=range(5, 12)) + "\n"


def _row(result: Result) -> tuple[str, ...]:
    launch, plan, real = result.launch, result.plan, result.launch["measured"]
    said = "no plan" if plan is None else "starts" if plan.fits else "fails"
    prediction = None if plan is None else plan.prediction
    low = None if prediction is None else prediction.kv_cache_tokens_low
    high = None if prediction is None else prediction.kv_cache_tokens_high
    tokens = real.get("kv_tokens")
    card = None if plan is None else plan.per_gpu[0]
    return (
        launch["name"],
        " ".join(launch["kinds"])[:12],
        launch["vllm"],
        "no" if launch["failed"] else "yes",
        said + ("" if result.is_right else " (wrong)"),
        "-" if card is None else f"{card.weights_bytes / GIB:.2f}",
        _number(real.get("weights_gib")),
        _number(result.planned_gib),
        _number(real.get("kv_cache_gib")),
        "-" if result.error is None else f"{result.error:+.1%}",
        "-" if plan is None else f"{plan.kv_cache_tokens:,}",
        "-" if tokens is None else f"{tokens:,}",
        "-" if low is None or high is None else f"{low:,} to {high:,}",
        {None: "-", True: "yes", False: "NO"}[result.is_covered],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def render_scores(results: Sequence[Result]) -> tuple[str, int]:
    """Plans, verdicts, errors and coverage, and the number of missed goals."""
    planned = [result for result in results if result.plan is not None]
    right = sum(result.is_right for result in results)
    errors = sorted(abs(result.error) for result in results if result.error is not None)
    covered = [result.is_covered for result in results if result.is_covered is not None]
    median = statistics.median(errors)
    ninth = errors[max(0, round(0.9 * len(errors)) - 1)]
    share = sum(covered) / len(covered)
    lines = (
        f"\nplanned: {len(planned)} of {len(results)}",
        f"verdicts right: {right} of {len(results)}",
        f"KV cache, of {len(errors)}: median error {median:.1%}, nine of ten within {ninth:.1%}",
        f"real KV cache inside the printed range: {sum(covered)} of {len(covered)} ({share:.0%})",
        *(f"  {result.launch['name']}: {result.problem}" for result in results if not result.is_right),
    )
    goals = (len(planned) == len(results), right == len(results), median <= MEDIAN_WITHIN)
    missed = sum(not met for met in (*goals, ninth <= NINE_OF_TEN_WITHIN, share >= COVERED))
    return "\n".join(lines) + "\n", missed


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
