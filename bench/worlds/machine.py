"""A simulated machine: what was measured on a real one, a residual that no plan knows, and traps, all by seed.

A world brings `Tables`. Nothing here comes from the planner's formulas: memory is interpolated between measured sizes,
speeds between measured speeds, and the residual is a random effect of each value, each pair of values and each point.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GIB = 1024**3
MIB = 1024**2
FLAKY_CAUSES = ("worker_died", "gpu_fault", "startup_stalled", "unknown", "disk_full", "port_in_use")
TRAPS = (
    *("knee", "flaky", "dies", "leak", "hair", "prefix", "graphs", "together", "order", "throttle", "spoilt", "narrow"),
)
"""What can be wrong in a world besides the residual; `inverted` is chosen apart."""

Settings = Mapping[str, Any]
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tables:
    """What was measured of a model on a card, with its sources in the world that brings it."""

    total_gib: float
    weights: Curve
    """GiB on the card by GiB offloaded."""
    other_gib: float
    """What is taken beside weights and KV cache, with the fewest batched tokens."""
    batched: Curve
    """GiB more by batched tokens."""
    graphs_gib: float
    token_mib: float
    """KV cache of one token."""
    speeds: Mapping[tuple[str, bool], Mapping[int, Curve]]
    """Tokens/s by way of offloading and eagerness, then by requests at once: curves over GiB offloaded."""
    request_tokens: int
    """Tokens of one request of the workload."""
    minutes: Curve
    """Minutes of a start by GiB offloaded."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of settings that the grid leaves out."""


def interpolate(curve: Curve, place: float, *, logarithmic: bool = False) -> float:
    """The value of a measured curve at a place, going on with its last slope beyond its ends."""
    points = sorted(curve)
    if len(points) == 1:
        return points[0][1]
    right = next((i for i, (x, _) in enumerate(points) if x >= place), len(points) - 1)
    (x0, y0), (x1, y1) = points[max(0, right - 1)], points[max(1, right)]
    if logarithmic:
        y0, y1 = math.log(y0), math.log(y1)
    value = y0 + (y1 - y0) * (place - x0) / (x1 - x0)
    return math.exp(value) if logarithmic else value


def draw(*names: object) -> float:
    """A standard normal number that belongs to these names: the same in each process."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    one, two = (int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in (0, 8))
    return math.sqrt(-2 * math.log(max(one, 1e-12))) * math.cos(2 * math.pi * two)


def residual(seed: int, kind: str, settings: Settings, scales: tuple[float, float, float]) -> float:
    """A random effect of each value, of each pair of values, and of the point; with these standard deviations."""
    single, pair, own = scales
    items = sorted((key, repr(value)) for key, value in settings.items())
    pairs = list(itertools.combinations(items, 2))
    total = single * sum(draw(seed, kind, item) for item in items) / math.sqrt(len(items))
    if pairs:
        total += pair * sum(draw(seed, kind, both) for both in pairs) / math.sqrt(len(pairs))
    return total + own * draw(seed, kind, items)


class Simulated:
    """One machine of a seed."""

    def __init__(
        self,
        tables: Tables,
        grid: Mapping[str, Sequence[Any]],
        seed: int,
        *,
        concurrency: int,
        traps: Sequence[str] | None = None,
        speed_scales: tuple[float, float, float] = (0.18, 0.07, 0.01),
        memory_scale: float = 0.05,
    ) -> None:
        self.tables, self.grid, self.seed, self.concurrency = tables, grid, seed, concurrency
        self.rng = random.Random(f"noise {seed}")
        chosen = random.Random(f"traps {seed}")
        self.traps = set(traps) if traps is not None else set(chosen.sample(TRAPS, chosen.randint(2, 5)))
        if traps is None and seed % 5 == 4:
            self.traps.add("inverted")
        self.noise = chosen.uniform(0.03, 0.08)
        self.speed_scales, self.memory_scale = speed_scales, memory_scale
        self.compiled: set[object] = set()
        self.measured_in_start = 0
        self.throttled = 1.0
        self.needs_warm_up = False
        self._hair: Settings | None = None
        if "hair" in self.traps:
            self._hair = self._fastest()

    # What is true

    def value(self, settings: Settings, key: str) -> Any:
        return settings.get(key, self.tables.defaults.get(key))

    def offloaded(self, settings: Settings) -> float:
        return float(self.value(settings, "memory.cpu_offload_gib") or 0.0)

    def kv_tokens(self, settings: Settings) -> int:
        """Tokens of the KV cache; negative where the weights leave nothing."""
        tables = self.tables
        budget = float(self.value(settings, "memory.gpu_memory_utilization")) * tables.total_gib
        batched = int(self.value(settings, "serve.max_num_batched_tokens"))
        other = tables.other_gib + interpolate(tables.batched, batched)
        graphs = 0.0 if self.value(settings, "memory.enforce_eager") else tables.graphs_gib
        if "graphs" in self.traps:
            graphs *= 4
        error = self.memory_scale * budget * residual(self.seed, "memory", settings, (0.5, 0.2, 0.05))
        error += self.memory_scale * budget * draw(self.seed, "memory") * 0.7
        left = budget - interpolate(tables.weights, self.offloaded(settings)) - other - graphs + error
        return int(left * 1024 / tables.token_mib)

    def cause(self, settings: Settings) -> str | None:
        """Why the point never starts; None where it does."""
        tokens = self.kv_tokens(settings)
        length, seqs = int(self.value(settings, "model.max_model_len")), int(self.value(settings, "serve.max_num_seqs"))
        if tokens <= 0:
            return "no_kv_cache_memory"
        if "narrow" in self.traps and seqs * length > 32 * 8192 and length >= 8192:
            return "context_too_long"  # a context that fits only with small batches
        return "context_too_long" if tokens < length else None

    def speed(self, settings: Settings, concurrency: int) -> float:
        seqs = int(self.value(settings, "serve.max_num_seqs"))
        held = max(1.0, self.kv_tokens(settings) / self.tables.request_tokens)
        at_once = max(1.0, min(concurrency, seqs, held))
        way = str(self.value(settings, "memory.offload_backend")) if self.offloaded(settings) else "-"
        curves = self.tables.speeds[way, bool(self.value(settings, "memory.enforce_eager"))]
        offloaded = self.offloaded(settings)
        known = [(math.log2(n), interpolate(curve, offloaded, logarithmic=True)) for n, curve in curves.items()]
        speed = interpolate(known, math.log2(at_once), logarithmic=True)
        logarithm = math.log(speed) + residual(self.seed, "speed", settings, self.speed_scales)
        if "inverted" in self.traps:
            logarithm = 8.0 - 0.6 * math.log(speed) + residual(self.seed, "speed", settings, self.speed_scales)
        return math.exp(logarithm) * self._trap_factor(settings, seqs)

    def _trap_factor(self, settings: Settings, seqs: int) -> float:
        factor = 1.0
        sizes = sorted(self.grid.get("serve.max_num_seqs", [seqs]))
        if "knee" in self.traps and len(sizes) > 1 and seqs > sizes[len(sizes) // 2]:
            factor *= 0.75
        if "together" in self.traps and len(self.grid) > 1:
            (first, values), (second, others) = list(self.grid.items())[-2:]
            if settings[first] == values[-1] and settings[second] == others[0]:
                factor *= 1.35
        return factor

    def _unstable(self, settings: Settings) -> str | None:
        if settings == self._hair:
            return "hair"
        if "dies" in self.traps and self.kv_tokens(settings) < 1.25 * 26_000 * (1 + 0.2 * draw(self.seed, "dies")):
            return "dies"
        keys = list(self.grid)
        leaky = keys[self.seed % len(keys)]
        if "leak" in self.traps and settings[leaky] == self.grid[leaky][0]:
            return "leak"
        return None

    def _fastest(self) -> Settings | None:
        names = list(self.grid)
        every = [dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.values())]
        ready = [settings for settings in every if self.cause(settings) is None and self._unstable(settings) is None]
        return max(ready, key=lambda settings: self.speed(settings, self.concurrency), default=None)

    # What a sweep sees

    def launch(self, settings: Settings) -> dict[str, Any]:
        minutes = interpolate(self.tables.minutes, self.offloaded(settings)) * self.rng.uniform(0.9, 1.15)
        shape = (self.value(settings, "memory.enforce_eager"), self.value(settings, "serve.max_num_batched_tokens"))
        is_new = shape not in self.compiled
        if is_new and "order" in self.traps:
            minutes += 4.0
        self.measured_in_start = 0
        self.throttled = 0.85 if "throttle" in self.traps and self.rng.random() < 0.2 else 1.0
        self.needs_warm_up = is_new and bool({"spoilt", "order"} & self.traps)
        if "flaky" in self.traps and self.rng.random() < 0.15:
            return {"start": self.rng.choice(FLAKY_CAUSES), "minutes": minutes * 0.6}
        cause = self.cause(settings)
        if cause is not None:
            return {"start": cause, "minutes": minutes * 0.5}
        self.compiled.add(shape)
        return {"start": "ready", "kv_cache_tokens": self.kv_tokens(settings), "minutes": minutes}

    def measure(self, settings: Settings, concurrency: int) -> dict[str, Any]:
        speed = self.speed(settings, concurrency) * self.throttled * math.exp(self.rng.gauss(0, self.noise))
        jit = False
        if self.needs_warm_up and self.measured_in_start == 0:
            speed *= 0.6
            jit = self.rng.random() < 0.7  # the others are warm-ups that no log line tells
        if "prefix" in self.traps and self.measured_in_start > 0:
            speed *= 1.06  # prompts that came before
        self.measured_in_start += 1
        return {
            "tokens_per_second": speed,
            "first_token_seconds": 0.1 * self.concurrency / max(1.0, speed / 50),
            "failed": 0,
            "requests": 64,
            "jit": jit,
        }

    def soak(self, settings: Settings) -> dict[str, Any]:
        trouble = self._unstable(settings)
        failed = 0
        if trouble == "hair":
            failed = sum(self.rng.random() < 0.004 for _ in range(400))
        return {
            "failed": failed,
            "requests": 400,
            "died_at_tokens": self.rng.randint(21_000, 26_000) if trouble == "dies" else None,
            "memory_slope_bytes_per_hour": self.rng.gauss(0, 6 * MIB) + (60 * MIB if trouble == "leak" else 0),
        }

    def truth(self, settings: Settings) -> dict[str, Any]:
        is_stable = self.cause(settings) is None and self._unstable(settings) is None
        return {"stable": is_stable, "tokens_per_second": self.speed(settings, self.concurrency) if is_stable else 0.0}
