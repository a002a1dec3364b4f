"""What the planner says of a launch that was measured: of its sizes, and of the speed of each of its workloads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bench.hybrid.grid import EXPERTS
from nexus_orch.compose.run import compose_run
from nexus_orch.contracts import Mechanism
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.estimate.pace import Pace
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.plan.offload.mechanisms import PREFETCH, UVA
from nexus_orch.plan.search.strategy import choose_loader
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.prepare import read_facts
from nexus_orch.types import COPY_RATE, LAYER_READS, READ_RATE, LayerRead, Lesson

MECHANISMS: Mapping[str | None, Mechanism] = {"uva": UVA, "prefetch": PREFETCH}
LAYER_TOKENS = (1, 16, 2048)
DATA = Path(__file__).parent.parent / "data" / "hybrid_h200.json"

_plugins = cache(lambda: load_plugins(None))


@dataclass(frozen=True)
class Speed:
    """One workload of one launch, in tokens per second: of one request between its tokens, and of all together."""

    case: str
    host: str
    backend: str | None
    requests: int
    input_tokens: int
    predicted: float
    measured: float
    disturbed: str | None = None
    """Why the measurement says nothing, where it does not."""

    @property
    def kind(self) -> str:
        """How the weights come to the card, and what decides beside that."""
        if self.backend is None:
            return "none, CUDA graphs" if self.case.endswith("graphs") else "none, eager"
        if self.backend == "prefetch":
            return "prefetch"
        return "in place, experts" if self.case.startswith(EXPERTS) else "in place, dense"

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def read_data() -> dict[str, Any]:
    """The machine, its bus and its launches."""
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def predict_speeds(data: Mapping[str, Any]) -> Iterator[Speed]:
    """Each workload of each launch, with the offload that the engine's log told. One request is judged by its decode
    rate, several by all their tokens over all the time, prompts included."""
    for launch in data["launches"]:
        # Where nothing was pinned, that plan chose for itself, and perhaps otherwise than today's.
        eager = ["memory.enforce_eager=true"] if launch.get("eager") else []
        settled = settle_case(launch["model"], [*launch["overrides"], *eager], _make_lessons(data, launch))
        pace = _as_launched(settled, launch)
        for load in launch["workloads"]:
            requests, tokens = load["requests"], load["input_tokens"]
            if requests == 1:
                step = pace.step_seconds()
                predicted, measured = (1 / step if step else 0.0), load["decode_tokens_per_second"]
            else:
                predicted = pace.together(requests, tokens, load["output_tokens"]) or 0.0
                measured = load["tokens_per_second"]
            disturbed = load.get("disturbed")
            yield Speed(
                launch["case"], launch["host"], launch["backend"], requests, tokens, predicted, measured, disturbed
            )


def _make_lessons(data: Mapping[str, Any], launch: Mapping[str, Any]) -> tuple[Lesson, ...]:
    """What `nexus calibrate --bus` says on that machine: of the layers, what was measured there, else elsewhere."""
    bus = data["bus"][launch["host"]]
    there = {row["model"]: row for row in data["layers"] if row["host"] == launch["host"]}
    models = dict.fromkeys(row["model"] for row in data["reads"])
    layers = tuple(
        _read_layer(there[model]) if model in there else _make_layer_read(data["reads"], model) for model in models
    )
    return (
        Lesson(f"{COPY_RATE}.0", bus["copy_bytes_per_second"], "measured"),
        Lesson(f"{READ_RATE}.0", bus["read_bytes_per_second"], "measured"),
        Lesson(f"{LAYER_READS}.0", layers, "measured"),
    )


def _read_layer(row: Mapping[str, Any]) -> LayerRead:
    matrices = tuple((rows, columns) for rows, columns in row["matrices"])
    return LayerRead(matrices, tuple((tokens, rate) for tokens, rate in row["rates"]))


def _make_layer_read(rows: Sequence[Mapping[str, Any]], model: str) -> LayerRead:
    """The rate of a whole layer, of its matrices' own rates."""
    found = [row for row in rows if row["model"] == model]
    sizes = [row["rows"] * row["columns"] for row in found]
    rates = []
    for tokens in LAYER_TOKENS:
        seconds = [size / row["bytes_per_second"][str(tokens)] for row, size in zip(found, sizes, strict=True)]
        rates.append((tokens, sum(sizes) / sum(seconds)))
    return LayerRead(tuple((row["rows"], row["columns"]) for row in found), tuple(rates))


def settle_case(model: str, overrides: Sequence[str], lessons: Sequence[Lesson]) -> Settled:
    """The plan's choice for a launch on one card of the machine that the launches ran on."""
    plugins = _plugins()
    words = ["hardware=h200", "hardware.host.ram_gib=256", "engine.version=0.25.1", f"model={model}"]
    spec = compose_run([*words, *overrides], project=None)
    facts, _ = read_facts(spec, plugins)
    inputs = read_inputs(spec, facts, lessons)
    parallelism = choose_parallelism(inputs)
    assert isinstance(parallelism, Parallelism)
    chosen = choose_loader(inputs, parallelism, plugins.loaders())
    assert chosen.trial is not None
    return chosen.trial.settled


def _as_launched(settled: Settled, launch: Mapping[str, Any]) -> Pace:
    """The pace with the bytes and the groups that the engine said, its active part as planned."""
    measured, placement = launch["measured"], settled.placement
    offloaded = int(measured["offloaded_bytes"])
    share = measured.get("active_share")
    if share is None:
        planned = sum(placement.offloaded_bytes)
        share = sum(placement.active_offloaded_bytes) / planned if planned else 1.0
    as_launched = replace(
        placement,
        offloaded_bytes=(offloaded,),
        active_offloaded_bytes=(int(offloaded * share),),
        copied_layer_bytes=_copied_layers(settled, measured) or placement.copied_layer_bytes,
        mechanism=MECHANISMS.get(launch["backend"]),
    )
    return Pace(settled.draft, as_launched)


def _copied_layers(settled: Settled, measured: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The layers that the engine said it copies, all of one size."""
    if "groups" not in measured:
        return ()
    size, chosen, _ = measured["groups"]
    copied = [place % size >= size - chosen for place in range(len(settled.draft.weights.stages[0].layer_bytes))]
    each = measured["offloaded_bytes"] // sum(copied)
    return (tuple(int(each) if is_copied else 0 for is_copied in copied),)
