"""The plan as one JSON object: what `nexus plan --format json` prints and a run folder keeps (plan.schema.json)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nexus_orch.types import Plan


def plan_document(plan: Plan, adapter: str, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """A public contract: the set of keys is stable, bytes are whole numbers. `env` must be free of secrets.

    `adapter` names the adapter that rendered `argv`. What the plan notes stands among the prediction's notes.
    """
    return {
        "fits": plan.fits,
        "loader": plan.loader,
        "adapter": adapter,
        "engine_version": plan.engine_version,
        "model": plan.model,
        "per_gpu": [asdict(card) for card in plan.per_gpu],
        "kv_cache_tokens": plan.kv_cache_tokens,
        "max_model_len": plan.max_model_len,
        "max_concurrency": plan.max_concurrency,
        "host": asdict(plan.host),
        "prediction": {
            **asdict(plan.prediction),
            "alternatives": [_plain(asdict(alternative)) for alternative in plan.prediction.alternatives],
            "notes": [*plan.prediction.notes, *plan.notes],
        },
        "argv": list(argv),
        "env": dict(env),
        "choices": [_plain(asdict(choice)) for choice in plan.choices],
        "problems": [
            {"cause": problem.cause, "message": problem.message, "remedy": problem.remedy} for problem in plan.problems
        ],
    }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Tuples are lists in JSON."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}
