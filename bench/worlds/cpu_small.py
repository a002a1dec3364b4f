"""A small model on a CPU engine: KV space, context, sequences and batched tokens; a world made for validation.

It shares no code with the others. Rules were mended several times after looks at its first 30 seeds, so it is held out
no more. BASE names no
concurrency, so that points are compared at 16. Speeds are made up: they saturate in sequences, sink where batches and
contexts are long, and two settings are worth something only together. A tenth of the seeds leaks slowly in one
corner, a tenth dies at accumulated tokens where the KV space is small, and in every seventh all that the plan says is
the wrong way round.
"""

from __future__ import annotations

import math
import random
from typing import Any

BASE = ["hardware=cpu", "model=qwen0_5b", "hardware.host.ram_gib=16", "engine.version=0.32.0"]
GRID: dict[str, list[Any]] = {
    "memory.kv_cache.size_gib": [0.5, 1, 2, 4],
    "model.max_model_len": [1024, 4096, 8192, 16384],
    "serve.max_num_seqs": [4, 8, 16, 32],
    "serve.max_num_batched_tokens": [512, 1024, 2048, 4096],
}
TOKENS_IN_A_GIB = 87_000


class SmallCpu:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = random.Random(f"cpu {seed}")
        self.noise = random.Random(f"cpu noise {seed}")
        self.saturation = rng.choice([6, 12, 24])
        self.batch_slope = rng.uniform(-0.12, 0.18)
        self.context_slope = rng.uniform(0.0, 0.06)
        self.space_slope = rng.uniform(-0.03, 0.06)
        self.bonus = rng.choice([1.0, 1.0, 1.25])
        self.corner = (rng.choice(GRID["serve.max_num_seqs"]), rng.choice(GRID["serve.max_num_batched_tokens"]))
        self.own = {n: math.exp(rng.gauss(0, 0.015)) for n in range(256)}
        self.is_inverted = seed % 7 == 6
        self.leaks, self.dies = seed % 10 == 3, seed % 10 == 7
        self.sigma = rng.uniform(0.03, 0.08)
        self.is_hot = False

    def _cause(self, settings: dict[str, Any]) -> str | None:
        tokens = settings["memory.kv_cache.size_gib"] * TOKENS_IN_A_GIB
        if tokens < settings["model.max_model_len"]:
            return "context_too_long"
        return None

    def _speed(self, settings: dict[str, Any]) -> float:
        seqs, batch = settings["serve.max_num_seqs"], settings["serve.max_num_batched_tokens"]
        at_once = min(16, seqs)
        speed = 40 * at_once / (1 + at_once / self.saturation)
        if self.is_inverted:
            speed = 9000 / speed
        speed *= math.exp(self.batch_slope * math.log2(batch / 512))
        speed *= math.exp(-self.context_slope * math.log2(settings["model.max_model_len"] / 1024))
        speed *= math.exp(self.space_slope * math.log2(settings["memory.kv_cache.size_gib"] / 0.5))
        if (seqs, batch) == self.corner:
            speed *= self.bonus
        place = 0
        for key, values in GRID.items():
            place = place * len(values) + values.index(settings[key])
        return float(speed * self.own[place])

    def _trouble(self, settings: dict[str, Any]) -> str | None:
        if self.leaks and settings["serve.max_num_batched_tokens"] >= 2048:
            return "leak"
        if self.dies and settings["memory.kv_cache.size_gib"] <= 1:
            return "death"
        return None

    def launch(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.is_hot = self.noise.random() < 0.12
        cause = self._cause(settings)
        if cause is not None:
            return {"start": cause, "minutes": 0.5}
        tokens = int(settings["memory.kv_cache.size_gib"] * TOKENS_IN_A_GIB)
        return {"start": "ready", "kv_cache_tokens": tokens, "minutes": 1.0}

    def measure(self, settings: dict[str, Any], concurrency: int) -> dict[str, Any]:
        speed = self._speed(settings) * math.exp(self.noise.gauss(0, self.sigma)) * (0.8 if self.is_hot else 1.0)
        return {"tokens_per_second": speed, "first_token_seconds": 0.4, "failed": 0, "requests": 48, "jit": False}

    def soak(self, settings: dict[str, Any]) -> dict[str, Any]:
        trouble = self._trouble(settings)
        return {
            "failed": 0,
            "requests": 300,
            "died_at_tokens": self.noise.randint(5_000, 9_000) if trouble == "death" else None,
            "memory_slope_bytes_per_hour": self.noise.gauss(0, 8e6) + (5e7 if trouble == "leak" else 0.0),
        }

    def truth(self, settings: dict[str, Any]) -> dict[str, Any]:
        is_stable = self._cause(settings) is None and self._trouble(settings) is None
        return {"stable": is_stable, "tokens_per_second": self._speed(settings)}


def make(seed: int) -> SmallCpu:
    return SmallCpu(seed)
