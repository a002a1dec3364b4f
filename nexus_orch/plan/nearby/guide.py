"""Guidance for buying and choosing: what sizes of model need, and what cards can serve. Every figure is a plan's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from nexus_orch.contracts import Loader
from nexus_orch.errors import ConfigError
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.model.families import parse_architecture
from nexus_orch.plan.model.parameters import count_parameters
from nexus_orch.plan.nearby.guide_rows import Breakdown, Guide, Machine, OffloadRow, RecommendedRow, SizeRow
from nexus_orch.types import (
    GIB,
    EngineFacts,
    Facts,
    GpuEstimate,
    MachineFacts,
    MemorySpec,
    ModelFacts,
    ModelSpec,
    Plan,
    RunSpec,
)

COMFORTABLE_CONTEXT = 32768
COMFORTABLE_REQUESTS = 16
"""A machine is comfortable with the model's own context up to 32,768 tokens and this many requests of the usual
workload at once."""
RECOMMENDED_CONTEXT = 8192
"""A model is recommended for a machine that holds a context of this length."""
BREAKDOWN_PARAMETERS, BREAKDOWN_CONTEXTS = 32e9, (2048, 32768)
OFFLOAD_PARAMETERS, OFFLOAD_MACHINE = 70e9, "rtx4090"
RECOMMENDED_MACHINES = ("rtx4090", "a100_80g", "rtx4090x2")
FOUR_BITS = ("awq", "gptq", "mxfp4")
SAME_SIZE = 1.1
"""Models whose parameters differ by less are one size."""
_ENOUGH_RAM_BYTES = 4096 * GIB


@dataclass(frozen=True)
class _Candidate:
    """A model profile with its size."""

    facts: ModelFacts
    weights: str

    @cached_property
    def parameters(self) -> int:
        return count_parameters(parse_architecture(self.facts.config)).total


def make_guide(
    models: Mapping[str, ModelFacts],
    machines: Mapping[str, MachineFacts],
    engine: EngineFacts,
    loaders: Mapping[str, Loader],
) -> Guide:
    """All tables, from the profiles that are given by their names; models that cannot be read are left out. Pure."""
    return _Guidance(models, machines, engine, loaders).guide()


@dataclass(frozen=True)
class _Guidance:
    models: Mapping[str, ModelFacts]
    machines: Mapping[str, MachineFacts]
    engine: EngineFacts
    loaders: Mapping[str, Loader]

    def guide(self) -> Guide:
        return Guide(
            self.engine.version, tuple(self._sizes()), self._breakdown(), tuple(self._recommended()), self._offload()
        )

    @cached_property
    def candidates(self) -> tuple[_Candidate, ...]:
        """All models, the largest first; of equal ones the first by name."""
        found = [
            _Candidate(model, _weights_of(model.config))
            for _, model in sorted(self.models.items())
            if _is_readable(model.config)
        ]
        return tuple(sorted(found, key=lambda candidate: -candidate.parameters))

    @cached_property
    def ladder(self) -> tuple[tuple[str, MachineFacts], ...]:
        """The machines from the least memory to the most; of equal ones the fewest and fastest cards first."""
        return tuple(sorted(self.machines.items(), key=lambda item: _ladder_key(item[1])))

    @cached_property
    def families(self) -> tuple[tuple[_Candidate, ...], ...]:
        """Models that ship in 4 bits too, one for each size, the smallest first: plain, in FP8, in 4 bits."""
        found: list[tuple[_Candidate, ...]] = []
        for plain in reversed(self.candidates):
            four = next(self._four_bits(plain), None)
            if four is None or any(_same_size(plain, known[0]) for known in found):
                continue
            config = {**plain.facts.config, "quantization_config": {"quant_method": "fp8"}}
            found.append((plain, _Candidate(replace(plain.facts, config=config), "fp8"), four))
        return tuple(found)

    def _four_bits(self, plain: _Candidate) -> Iterator[_Candidate]:
        if plain.weights != "bf16":
            return
        for other in self.candidates:
            if other.facts.name.startswith(f"{plain.facts.name}_") and other.weights in FOUR_BITS:
                yield other

    def _plan(self, candidate: _Candidate, machine: MachineFacts, strategy: str, context: int | None = None) -> Plan:
        model = ModelSpec(name=candidate.facts.name, max_model_len=context)
        spec = RunSpec(name="guide", model=model, memory=MemorySpec(strategy=strategy))
        return make_plan(spec, Facts(candidate.facts, machine, self.engine), self.loaders)

    def _sizes(self) -> Iterator[SizeRow]:
        roomy = self.ladder[-1][1]
        for family in self.families:
            for candidate in family:
                plan = self._plan(candidate, replace(roomy, gpus=roomy.gpus[:1]), "vram_only", 2048)
                weights = plan.per_gpu[0].weights_bytes
                least, comfortable = self._find_machines(candidate, weights)
                name, count = family[0].facts.name, family[0].parameters
                yield SizeRow(name, count, candidate.weights, weights, least, comfortable)

    def _find_machines(self, candidate: _Candidate, weights_bytes: int) -> tuple[Machine | None, Machine | None]:
        least: Machine | None = None
        for name, machine in self.ladder:
            if sum(gpu.total_bytes for gpu in machine.gpus) <= weights_bytes:
                continue
            plan = self._plan(candidate, machine, "vram_only")
            if not plan.fits or plan.prediction.borderline:
                continue
            here = Machine(name, len(machine.gpus), machine.gpus[0].total_bytes)
            least = least or here
            if _is_comfortable(plan, candidate):
                return least, here
        return least, None

    def _breakdown(self) -> Breakdown | None:
        family = _nearest(self.families, BREAKDOWN_PARAMETERS)
        if family is None:
            return None
        plain = family[0]
        for name, machine in self.ladder:
            if len(machine.gpus) == 1:
                plan = self._plan(plain, machine, "vram_only", BREAKDOWN_CONTEXTS[0])
                if plan.fits:
                    return _make_breakdown(plain.facts.name, name, plan)
        return None

    def _recommended(self) -> Iterator[RecommendedRow]:
        for name in RECOMMENDED_MACHINES:
            for weights in (("bf16",), FOUR_BITS):
                row = self._largest(name, weights)
                if row is not None:
                    yield row

    def _largest(self, name: str, weights: Sequence[str]) -> RecommendedRow | None:
        machine = self.machines.get(name)
        for candidate in self.candidates if machine is not None else ():
            assert machine is not None
            if candidate.weights not in weights or _surely_too_large(candidate, machine):
                continue
            plan = self._plan(candidate, machine, "vram_only")
            if plan.fits and plan.max_model_len >= RECOMMENDED_CONTEXT:
                return RecommendedRow(
                    name,
                    candidate.weights,
                    candidate.facts.name,
                    candidate.parameters,
                    plan.max_model_len,
                    plan.max_concurrency,
                    plan.prediction.decode_tokens_per_second,
                    {key: value for key, value in plan.settings.items() if key.split(".")[0] in ("memory", "serve")},
                )
        return None

    def _offload(self) -> tuple[OffloadRow, ...]:
        """The row of a model that is shared with host RAM: with as much of it as it takes, so that the row says how
        much that is."""
        family, machine = _nearest(self.families, OFFLOAD_PARAMETERS), self.machines.get(OFFLOAD_MACHINE)
        if family is None or machine is None:
            return ()
        host = replace(machine.host, ram_total_bytes=_ENOUGH_RAM_BYTES, ram_available_bytes=_ENOUGH_RAM_BYTES)
        rows = []
        for candidate in family:
            plan = self._plan(candidate, replace(machine, host=host), "hybrid")
            if plan.fits:
                rows.append(_make_offload_row(candidate, plan))
        return tuple(rows)


def _is_readable(config: Mapping[str, Any]) -> bool:
    try:
        parse_architecture(config)
    except ConfigError:
        return False
    return True


def _weights_of(config: Mapping[str, Any]) -> str:
    quantized = config.get("quantization_config")
    return str(quantized.get("quant_method")) if isinstance(quantized, Mapping) else "bf16"


def _ladder_key(machine: MachineFacts) -> tuple[int, int, float]:
    """A key for the order of machines: GiB of all cards, number of cards, and the bandwidth, the fastest first."""
    total = round(sum(gpu.total_bytes for gpu in machine.gpus) / GIB)
    return total, len(machine.gpus), -(machine.gpus[0].memory_bandwidth_bytes_per_second or 0.0)


def _same_size(first: _Candidate, second: _Candidate) -> bool:
    small, large = sorted((first.parameters, second.parameters))
    return large < SAME_SIZE * small


def _nearest(families: Sequence[tuple[_Candidate, ...]], parameters: float) -> tuple[_Candidate, ...] | None:
    return min(families, key=lambda family: abs(family[0].parameters - parameters), default=None)


def _surely_too_large(candidate: _Candidate, machine: MachineFacts) -> bool:
    """Whether a model is not worth a plan: half a byte for each parameter is the least."""
    least = candidate.parameters * (2 if candidate.weights == "bf16" else 0.5)
    return least > sum(gpu.total_bytes for gpu in machine.gpus)


def _is_comfortable(plan: Plan, candidate: _Candidate) -> bool:
    context = min(COMFORTABLE_CONTEXT, parse_architecture(candidate.facts.config).longest_context)
    work = plan.spec.workload
    tokens = COMFORTABLE_REQUESTS * (work.input_tokens + work.output_tokens)
    return plan.max_model_len >= context and (plan.prediction.kv_cache_tokens_low or 0) >= tokens


def _make_breakdown(model: str, machine: str, plan: Plan) -> Breakdown:
    card: GpuEstimate = plan.per_gpu[0]
    each = card.kv_cache_bytes / plan.kv_cache_tokens
    return Breakdown(
        model,
        machine,
        card.weights_bytes,
        {str(tokens): int(each * tokens) for tokens in BREAKDOWN_CONTEXTS},
        card.activation_bytes,
        card.cuda_graph_bytes,
        card.non_torch_bytes,
    )


def _make_offload_row(candidate: _Candidate, plan: Plan) -> OffloadRow:
    card = plan.per_gpu[0]
    return OffloadRow(
        OFFLOAD_MACHINE,
        candidate.facts.name,
        candidate.weights,
        card.budget_bytes - card.headroom_bytes,
        card.offloaded_bytes,
        plan.host.pinned_bytes,
        plan.host.required_bytes,
        plan.max_model_len,
        plan.prediction.decode_tokens_per_second,
    )
