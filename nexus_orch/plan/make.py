"""`make_plan`: from what the user asked for and what is true to what will happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nexus_orch.contracts import Loader
from nexus_orch.errors import Problem
from nexus_orch.plan.answer.elsewhere import judge_elsewhere
from nexus_orch.plan.answer.evidence import evidence_notes
from nexus_orch.plan.answer.exposure import exposure_notes
from nexus_orch.plan.answer.host_remedies import find_host_remedy
from nexus_orch.plan.answer.ram_first import with_ram_first
from nexus_orch.plan.answer.remedies import find_remedies
from nexus_orch.plan.answer.settings import model_choices, passed_choices, serve_choices
from nexus_orch.plan.answer.unused import with_unused_pins
from nexus_orch.plan.answer.verdict import judge_context, judge_memory
from nexus_orch.plan.asked.inputs import Inputs, read_inputs
from nexus_orch.plan.asked.lora import lora_notes
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.cpu import make_cpu_plan
from nexus_orch.plan.estimate.drafting import speculation_notes
from nexus_orch.plan.estimate.host import host_notes, judge_host
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.plan.release.kept import is_hopper
from nexus_orch.plan.search.strategy import LoaderChoice, choose_loader, find_pinned
from nexus_orch.releases.models import packs_mxfp4_for_marlin
from nexus_orch.types import GIB, Choice, Facts, HostEstimate, Lesson, Plan, Prediction, RunSpec

UNDRAWABLE = ("not_enough_gpus", "tensor_parallel_invalid", "unsupported_quantization")
"""Causes for which nothing can be said about memory: figures would be those of another run."""
MARLIN_VARIABLE = "VLLM_MXFP4_USE_MARLIN"
PACKING_ROOM = 1.25
"""Weights that leave less than a quarter of their size free are told about; an assumption, not a measurement."""
SMALLEST_TOLD_BYTES = GIB // 100
"""Notes give GiB with two digits."""


def make_plan(
    spec: RunSpec,
    facts: Facts,
    loaders: Mapping[str, Loader],
    lessons: Sequence[Lesson] = (),
    *,
    seeks_remedies: bool = True,
) -> Plan:
    """The plan of a run. Pure: the same arguments give the same plan.

    `loaders` are the ways to place weights, by name. `lessons` are what earlier launches measured: settings fill what
    the user left open, quantities replace estimates. A pinned value is never changed; what cannot work is a problem of
    the plan, with a remedy; `seeks_remedies` False leaves those out that must be tried out, which takes as long as the
    plan itself. Raises ConfigError when the model's configuration cannot be read or the strategy is unknown.
    """
    inputs = read_inputs(spec, facts, lessons)
    parallelism = choose_parallelism(inputs)
    problems = [*inputs.problems, *judge_context(inputs), *parallelism.problems]
    if inputs.is_cpu:
        pinned = find_pinned(inputs, loaders)
        refusal = None if pinned is None else pinned.supports(spec, facts)
        return with_unused_pins(with_ram_first(make_cpu_plan(inputs, parallelism, problems, refusal), facts))
    if any(problem.cause in UNDRAWABLE for problem in problems):
        return _refused(inputs, parallelism, problems, inputs.spec.memory.strategy or "none")
    chosen = choose_loader(inputs, parallelism, loaders)
    if chosen.trial is None:
        problems += _unsupported(inputs, chosen)
        return _refused(inputs, parallelism, problems, str(chosen.choice.value))
    plan = _complete(inputs, parallelism, chosen, loaders if seeks_remedies else None, problems)
    plan = with_ram_first(plan, facts)
    return with_unused_pins(plan, chosen.trial.settled.placement.honours)


def _complete(
    inputs: Inputs,
    parallelism: Parallelism,
    chosen: LoaderChoice,
    loaders: Mapping[str, Loader] | None,
    problems: list[Problem],
) -> Plan:
    """The plan of the chosen trial, whether it fits or not; without `loaders` no remedy is sought."""
    taken = chosen.trial
    assert taken is not None
    settled = taken.settled
    # What is wrong with the wish to offload is told alone: the lack of memory that it leads to is no second mistake.
    if not settled.placement.problems and (not taken.fits or judge_memory(settled, "")):
        remedies = "" if loaders is None else find_remedies(inputs, taken, loaders)
        found = judge_memory(settled, remedies)
        # A context beyond the model's own limit is told once, not as a lack of memory too.
        told = {"context_too_long"} if any(p.cause == "context_exceeds_model" for p in problems) else set()
        problems += [problem for problem in found if problem.cause not in told]
    host = settled.host
    remedy = None if settled.fits_host or loaders is None else find_host_remedy(inputs, taken, loaders, host)
    problems += [*judge_host(inputs, host, remedy), *settled.placement.problems]
    return Plan(
        spec=inputs.fixed.original,
        fits=not problems,
        loader=taken.loader,
        engine_version=inputs.facts.engine.version,
        model=inputs.facts.model.name,
        choices=_choices(inputs, parallelism, chosen, settled, taken.choices),
        per_gpu=tuple(settled.estimate(card) for card in range(len(settled.draft.gpus))),
        host=host,
        prediction=_predict(settled, borderline=settled.is_borderline and _is_uncertain(problems)),
        kv_cache_tokens=settled.tokens(),
        max_model_len=int(settled.max_model_len.value),
        max_concurrency=round(settled.concurrency, 2),
        problems=tuple(problems),
        notes=(*_notes(inputs, chosen, settled, problems), *_offload_notes(inputs, settled, host)),
        proof=None if settled.mechanism is None else settled.mechanism.proof,
    )


def _offload_notes(inputs: Inputs, settled: Settled, host: HostEstimate) -> tuple[str, ...]:
    """Notes on weights and KV blocks in RAM."""
    elsewhere = judge_elsewhere(settled) if settled.offloads else None
    return (
        *settled.placement.notes,
        *host_notes(inputs, settled.placement, host),
        *((elsewhere,) if elsewhere else ()),
    )


def _choices(
    inputs: Inputs, parallelism: Parallelism, chosen: LoaderChoice, settled: Settled, batching: tuple[Choice, ...]
) -> tuple[Choice, ...]:
    """The choices of every setting of the run in the order of the configuration; a key appears once."""
    memory = (chosen.choice, settled.utilization, *settled.placement.choices)
    if inputs.fixed.has("memory.kv_cache.size_gib"):
        memory = (*memory, inputs.fixed.choice("memory.kv_cache.size_gib", None, ""))
    found = (
        *model_choices(inputs),
        settled.max_model_len,
        *memory,
        *passed_choices(inputs),
        *parallelism.choices,
        *batching,
        *serve_choices(inputs),
    )
    order = {"model": 0, "memory": 1, "serve": 2}
    unique = {choice.key: inputs.fixed.attributed(choice) for choice in found if choice.value is not None}
    return tuple(sorted(unique.values(), key=lambda choice: order.get(choice.key.split(".")[0], 3)))


def _is_uncertain(problems: list[Problem]) -> bool:
    """Whether what was found (which may be nothing) rests on the size of the KV cache alone."""
    return all(problem.cause in ("no_kv_cache_memory", "context_too_long") for problem in problems)


def _predict(settled: Settled, *, borderline: bool) -> Prediction:
    draft, work = settled.draft, settled.draft.inputs.spec.workload
    plain = draft.inputs.speculation is None  # how many drafted tokens are accepted is not known
    seconds = settled.pace.step_seconds() if plain else None
    is_servable = work.input_tokens + work.output_tokens <= draft.inputs.architecture.longest_context
    together = settled.pace.together(settled.requests_at_once, work.input_tokens, work.output_tokens)
    return Prediction(
        decode_tokens_per_second=round(1 / seconds, 2) if seconds else None,
        time_to_first_token_seconds=settled.pace.first_token_seconds(work.input_tokens) if is_servable else None,
        requests_at_once=settled.requests_at_once,
        tokens_per_second=None if together is None or not (is_servable and plain) else round(together, 2),
        kv_cache_tokens_low=settled.tokens(-draft.account.doubt.below),
        kv_cache_tokens_high=settled.tokens(draft.account.doubt.above + draft.account.peak.later_gain_bytes),
        borderline=borderline,
    )


def _notes(inputs: Inputs, chosen: LoaderChoice, settled: Settled, problems: list[Problem]) -> tuple[str, ...]:
    notes = [*inputs.notes, *inputs.facts.model.notes, *inputs.facts.machine.notes, *inputs.facts.engine.notes]
    notes += [*exposure_notes(inputs.spec.serve), *evidence_notes(inputs.spec.evidence, inputs.facts)]
    notes += [f"{name} cannot serve this run: {refusal.reason}" for name, refusal in chosen.refused.items()]
    outside = settled.draft.outside_bytes(settled.placement)
    if outside >= SMALLEST_TOLD_BYTES:
        notes.append(
            f"vLLM {inputs.facts.engine.version} takes {outside / GIB:.2f} GiB on each card on top of its budget "
            "(CUDA graphs, offload buffers, page tables of KV blocks in RAM): the plan leaves that free"
        )
    notes += [*_packing_notes(inputs, settled), *speculation_notes(settled)]
    notes += _engines_notes(inputs)
    notes += lora_notes(inputs.spec, settled.draft.adapter_bytes, inputs.lora)
    gain = settled.draft.account.peak.later_gain_bytes
    if gain >= SMALLEST_TOLD_BYTES:
        notes.append(
            "a start that compiles the model times kernels with a copy of the embedding: it has "
            f"{gain / GIB:.2f} GiB less for the KV cache than later ones, which find what was compiled"
        )
    if settled.is_borderline and _is_uncertain(problems):
        length = f"a context of {settled.needed_context:,}"
        if settled.fits_context:
            notes.append(f"borderline: {length} fits, but not at the low end of the estimate")
        else:
            notes.append(f"borderline: {length} would fit at the high end of the estimate")
    work, limit = inputs.spec.workload, inputs.architecture.longest_context
    if work.input_tokens + work.output_tokens > limit:
        notes.append(
            f"a request of the workload has {work.input_tokens + work.output_tokens:,} tokens, and the model takes "
            f"{limit:,}: planned for as many as fit"
        )
    if settled.fits_context and not settled.holds_concurrency:
        notes.append(
            f"the KV cache holds {settled.requests_held} requests at once, and workload.concurrency asks for "
            f"{settled.draft.target.requests}: the others wait"
        )
    return tuple(notes)


def _engines_notes(inputs: Inputs) -> tuple[str, ...]:
    """What the figures of a plan mean where engines run side by side."""
    engines = inputs.engines
    if engines == 1:
        return ()
    shared = ", and they share the experts" if inputs.architecture.is_moe else ""
    exchange = "; what their exchange of tokens takes is not counted" if shared else ""
    return (
        f"{engines} engines side by side, each with its own cards, weights and KV cache{shared}: figures are of one of "
        f"them{exchange}",
    )


def _packing_notes(inputs: Inputs, settled: Settled) -> tuple[str, ...]:
    """What is known of weights that take more while they are prepared than they do afterwards."""
    gpu, version = settled.draft.gpus[0], inputs.facts.engine.version
    told = inputs.spec.engine.env.get(MARLIN_VARIABLE, "1").strip().lower()
    packs = inputs.scheme.method == "mxfp4" and is_hopper(gpu) and packs_mxfp4_for_marlin(version)
    weights, free = max(settled.draft.weights_bytes), min(settled.draft.account.free_bytes)
    if not packs or told in ("0", "false") or weights * PACKING_ROOM <= free:
        return ()
    return (
        f"vLLM {version} packs MXFP4 experts for Marlin's kernels on {gpu.name}, which takes more while they are "
        f"loaded than the {weights / GIB:.1f} GiB that stay, by an amount that is not counted: one card of 80 GB "
        f"ran out of memory so with gpt-oss-120b; +engine.env.{MARLIN_VARIABLE}=0 keeps Triton's kernels",
    )


def _unsupported(inputs: Inputs, chosen: LoaderChoice) -> list[Problem]:
    """One problem for each strategy that cannot serve, with its reason."""
    return [
        Problem(
            f"{name} cannot serve this run: {refusal.reason}",
            key=refusal.key,
            value=name if refusal.key == "memory.strategy" else inputs.spec.get(refusal.key),
            origin=inputs.fixed.problem_origin(refusal.key),
            remedy=refusal.remedy,
            cause=refusal.cause,
        )
        for name, refusal in chosen.refused.items()
    ]


def _refused(inputs: Inputs, parallelism: Parallelism, problems: list[Problem], loader: str) -> Plan:
    """A plan that cannot even be drawn: it says why, and nothing about memory."""
    host = inputs.facts.machine.host
    choices = (*model_choices(inputs), *passed_choices(inputs), *parallelism.choices, *serve_choices(inputs))
    return Plan(
        spec=inputs.fixed.original,
        fits=False,
        loader=loader,
        engine_version=inputs.facts.engine.version,
        model=inputs.facts.model.name,
        choices=tuple(choice for choice in choices if choice.value is not None),
        per_gpu=(),
        host=HostEstimate(0, max(0, host.ram_available_bytes - host.reserved_bytes), 0),
        prediction=Prediction(),
        kv_cache_tokens=0,
        max_model_len=0,
        max_concurrency=0.0,
        problems=tuple(problems),
        notes=inputs.notes,
    )
