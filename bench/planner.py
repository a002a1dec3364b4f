"""The planner against 34 real launches, beside other formulas, and how fast it is.

Run: python -m bench.planner. With --markdown it prints the table of errors as it stands in docs/planner.md.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nexus_orch.plan import choose_scheme, parse_architecture
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.plan.release.weights import WeightLayout
from nexus_orch.types import GIB, Plan
from nexus_orch.view.words import render_columns, render_markdown_table
from tests.plan.cases import LOADERS, config_of, kv_gib, launches, make_facts, make_gpu, make_spec, plan_launch

PLANS = 1000
MOST_SECONDS_FOR_PLANS = 5.0
MOST_SECONDS_FOR_ONE = 0.020
FORMULAS = {"simple": "u x memory - weights", "rule": "u x memory - 1.2 x weights - 2"}
HALF_WITHIN, NINE_OF_TEN_WITHIN = 0.03, 0.08


def main() -> int:
    """Print the tables; the exit code is the number of missed goals."""
    if sys.argv[1:] == ["--markdown"]:
        sys.stdout.write(render_errors())
        return 0
    rows = [_measure(launch) for launch in launches()]
    sys.stdout.write(_render_launches(rows))
    return _report_goals(rows) + _report_speed()


def _measure(launch: Mapping[str, Any]) -> dict[str, Any]:
    """One launch: what was measured, what is predicted, and what others would say."""
    plan = plan_launch(launch)
    settings, total = launch["settings"], float(launch["gpu"]["total_gib"])
    weights = _checkpoint_gib(launch) / settings["serve.tensor_parallel"]
    kept = weights - settings.get("memory.cpu_offload_gib", 0.0)
    budget = settings["memory.gpu_memory_utilization"] * total
    return {
        "launch": launch,
        "plan": plan,
        "measured": launch["measured"]["kv_cache_gib"],
        "ours": kv_gib(plan),
        "simple": budget - kept,
        "rule": budget - (1.2 * kept + 2.0),
    }


def _checkpoint_gib(launch: Mapping[str, Any]) -> float:
    """The size of the weight files, which is what the other formulas begin with."""
    config = config_of(launch["config_of"])
    scheme = choose_scheme(config)
    assert isinstance(scheme, Scheme)
    architecture = parse_architecture(config)
    layout = WeightLayout(architecture, scheme, 2, 1, 1, whole_segments=False)
    return layout.stages[0].total_bytes / GIB


def _render_launches(rows: Sequence[Mapping[str, Any]]) -> str:
    header = (
        *("launch", "vLLM", "fitted", "weights", "measured", "KV cache", "measured", "error", "%"),
        *FORMULAS.values(),
    )
    lines = []
    for row in rows:
        launch, measured = row["launch"], row["launch"]["measured"]
        error = row["ours"] - row["measured"]
        weights = measured.get("weights_gib")
        lines.append(
            (
                f"{launch['name']}",
                launch["vllm_version"],
                "yes" if launch["fitted"] else "no",
                f"{row['plan'].per_gpu[0].weights_bytes / GIB:.2f}",
                "-" if weights is None else f"{weights:.2f}",
                f"{row['ours']:.2f}",
                f"{row['measured']:.2f}",
                f"{error:+.2f}",
                f"{error / abs(row['measured']):+.1%}",
                *(f"{row[other] - row['measured']:+.2f}" for other in FORMULAS),
            )
        )
    intro = (
        "GiB on each card; the last columns are the errors of other formulas for the KV cache (the first of them is\n"
        "the graphical ancestor's too: it knows the size of the files and nothing else).\n\n"
    )
    return intro + render_columns(header, lines, right=range(3, len(header))) + "\n"


def render_errors() -> str:
    """The error of the KV cache of each card in every launch, as a Markdown table."""
    header = ("launch", "cards", "vLLM", "constants", "measured", "predicted", "error", "%")
    lines = []
    for row in map(_measure, launches()):
        launch, card, error = row["launch"], row["launch"]["gpu"], row["ours"] - row["measured"]
        lines.append(
            (
                launch["name"].split(" on ")[0],
                f"{card['count']} x {card['name']}",
                launch["vllm_version"],
                "fitted" if launch["fitted"] else "held out",
                f"{row['measured']:.2f}",
                f"{row['ours']:.2f}",
                f"{round(error, 2) + 0:+.2f}",
                f"{round(error / abs(row['measured']), 3) + 0:+.1%}",
            )
        )
    return render_markdown_table(header, lines, right=(4, 5, 6, 7))


def _report_goals(rows: Sequence[Mapping[str, Any]]) -> int:
    """Share of the launches within the goals, all and held out, for each formula; and the verdicts."""
    missed = 0
    header = ("launches", "formula", "median", "90% within", "largest")
    lines = []
    for name, chosen in (("all", rows), ("held out", [row for row in rows if not row["launch"]["fitted"]])):
        # What cannot be served has a KV cache near zero: an error in per cent says nothing there.
        served = [row for row in chosen if row["measured"] > 0]
        for formula in ("ours", *FORMULAS):
            errors = sorted(abs(row[formula] / row["measured"] - 1) for row in served)
            ninth = errors[max(0, round(0.9 * len(errors)) - 1)]
            median = statistics.median(errors)
            lines.append(
                (
                    f"{name} ({len(served)})",
                    FORMULAS.get(formula, "this planner"),
                    f"{median:.2%}",
                    f"{ninth:.1%}",
                    f"{errors[-1]:.1%}",
                )
            )
            if formula == "ours":
                missed += median > HALF_WITHIN or ninth > NINE_OF_TEN_WITHIN
    wrong = [row for row in rows if _fits(row["plan"]) != (not row["launch"]["measured"].get("failed", False))]
    sys.stdout.write(render_columns(header, lines, right=(2, 3, 4)))
    sys.stdout.write(f"\nverdicts right: {len(rows) - len(wrong)} of {len(rows)}\n")
    for row in wrong:
        sys.stdout.write(f"  wrong: {row['launch']['name']} ({row['launch']['vllm_version']})\n")
    return missed + bool(wrong)


def _fits(plan: Plan) -> bool:
    return plan.fits


def _report_speed() -> int:
    """1,000 different plans, and the slowest kind of plan: one that does not fit and tries out remedies."""
    facts = [make_facts(name, make_gpu(), make_gpu()) for name in ("Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen3-30B-A3B")]
    specs = [make_spec({"model.max_model_len": 1024 + 16 * number}) for number in range(PLANS // len(facts))]
    all_plans = _seconds(lambda: [make_plan(spec, fact, LOADERS) for fact in facts for spec in specs])
    refused = make_facts("meta-llama/Llama-3.1-70B-Instruct", make_gpu())
    one = min(_seconds(lambda: make_plan(specs[0], refused, LOADERS)) for _ in range(20))
    sys.stdout.write(f"\n{PLANS} plans: {all_plans:.2f} s (goal {MOST_SECONDS_FOR_PLANS:g})\n")
    sys.stdout.write(f"a plan that does not fit, with its remedies: {one * 1000:.1f} ms (goal 20)\n")
    return (all_plans > MOST_SECONDS_FOR_PLANS) + (one > MOST_SECONDS_FOR_ONE)


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of this process's own work: planning waits for nothing, and what else runs must not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
