"""The guidance tables as plain text of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from nexus_orch.plan.asked.target import LEAST_CONTEXT
from nexus_orch.plan.nearby.guide import COMFORTABLE_CONTEXT, COMFORTABLE_REQUESTS, RECOMMENDED_CONTEXT
from nexus_orch.plan.nearby.guide_rows import Breakdown, Guide, Machine, OffloadRow, RecommendedRow, SizeRow
from nexus_orch.releases.allocator import resets_allocator
from nexus_orch.types import GIB, WorkloadSpec
from nexus_orch.view.words import NOTHING, render_bytes, render_columns, render_count

WIDTH = 80
_WEIGHTS = {"awq": "4 bits", "gptq": "4 bits", "mxfp4": "4 bits"}
_ALWAYS_THE_SAME = ("memory.strategy", "serve.host", "serve.port")


def render_guide(guide: Guide) -> str:
    """All tables, each with what its words mean."""
    sections = [
        _render_sizes(guide.sizes),
        *([] if guide.breakdown is None else [_render_breakdown(guide.breakdown)]),
        _render_recommended(guide.recommended),
        _render_offload(guide.offload),
    ]
    intro = _wrap(
        f"Planned for vLLM {guide.engine_version} over the profiles in conf/; plan your own run for its figures."
    )
    return "\n".join([intro, *sections])


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent) + "\n"


def _titled(title: str, table: str, explanation: str) -> str:
    return f"{title}\n\n{textwrap.indent(table, '  ')}\n{_wrap(explanation, '  ')}"


def _billions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} B"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _render_sizes(rows: tuple[SizeRow, ...]) -> str:
    header = ("size", "model", "weights", "GiB", "at least", "comfortable")
    lines = [
        (
            _billions(row.parameters),
            row.model,
            _WEIGHTS.get(row.weights, row.weights),
            _gib(row.weights_bytes),
            _machine(row.least),
            _machine(row.comfortable),
        )
        for row in rows
    ]
    work = WorkloadSpec()
    explanation = (
        "Machines: cards x GiB, and the hardware profile. At least: the machine with the least memory that surely "
        f"holds the weights and a context of {LEAST_CONTEXT:,} tokens. "
        f"Comfortable: the model's own context (up to {COMFORTABLE_CONTEXT:,}) and {COMFORTABLE_REQUESTS} requests of "
        f"{work.input_tokens} + {work.output_tokens} tokens at once."
    )
    return _titled("What a model needs, all on the cards", render_columns(header, lines, right=(0, 3)), explanation)


def _machine(machine: Machine | None) -> str:
    if machine is None:
        return NOTHING
    return f"{machine.cards} x {machine.card_bytes / GIB:.0f} {machine.name}"


def _render_breakdown(breakdown: Breakdown) -> str:
    first, *others = breakdown.kv_cache_bytes.items()
    lines = [
        ("weights", render_bytes(breakdown.weights_bytes)),
        (f"KV cache of one request of {int(first[0]):,} tokens", render_bytes(first[1])),
        ("activations", render_bytes(breakdown.activation_bytes)),
        ("CUDA graphs", render_bytes(breakdown.cuda_graph_bytes)),
        ("CUDA context and libraries", render_bytes(breakdown.non_torch_bytes)),
        ("total", render_bytes(breakdown.total_bytes)),
    ]
    longer = [f"one request of {int(tokens):,} tokens: {render_bytes(size)}" for tokens, size in others]
    explanation = (
        f"Serving keeps no gradients and no optimizer state. KV cache of {'; '.join(longer)}. vLLM fills the rest of "
        "its share with KV cache for more requests; activations and graphs grow with the batch, which large cards "
        "choose larger."
    )
    title = f"Where the memory goes: {breakdown.model} in bf16 on one {breakdown.machine}"
    return _titled(title, render_columns(("part", "size"), lines, right=(1,)), explanation)


def _render_recommended(rows: tuple[RecommendedRow, ...]) -> str:
    header = ("machine", "weights", "largest model", "size", "context", "at once", "tokens/s")
    lines = [
        (
            row.machine,
            _WEIGHTS.get(row.weights, row.weights),
            row.model,
            _billions(row.parameters),
            render_count(row.max_model_len),
            f"{row.max_concurrency:.1f}",
            NOTHING if row.decode_tokens_per_second is None else f"{row.decode_tokens_per_second:.0f}",
        )
        for row in rows
    ]
    table = render_columns(header, lines, right=(3, 4, 5, 6))
    settings = "\n".join(_settings(rows))
    explanation = (
        f"The largest that fits all on the cards with a context of at least {RECOMMENDED_CONTEXT:,}; at once: requests "
        "of the whole context; tokens/s: one request alone. Larger ones: memory=hybrid."
    )
    return _titled("Recommended settings", f"{table}\n{settings}\n", explanation)


def _settings(rows: tuple[RecommendedRow, ...]) -> Iterator[str]:
    """The command of each row, with what the planner sets beyond the profiles."""
    for row in rows:
        yield f"nexus-run hardware={row.machine} model={row.model}"
        told = " ".join(_told(row.settings))
        if told:
            yield textwrap.fill(told, WIDTH - 2, initial_indent="    ", subsequent_indent="    ")


def _told(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if key not in _ALWAYS_THE_SAME:
            yield f"{key.split('.')[-1]}={str(value).lower() if isinstance(value, bool) else value}"


def _render_offload(rows: tuple[OffloadRow, ...]) -> str:
    header = ("model", "weights", "card", "RAM", "pinned", "needed", "context", "tokens/s")
    lines = [
        (
            row.model,
            _WEIGHTS.get(row.weights, row.weights),
            _gib(row.on_card_bytes),
            _gib(row.offloaded_bytes),
            _gib(row.pinned_bytes),
            _gib(row.host_ram_bytes),
            render_count(row.max_model_len),
            NOTHING if row.decode_tokens_per_second is None else f"{row.decode_tokens_per_second:.2g}",
        )
        for row in rows
    ]
    machine = rows[0].machine if rows else NOTHING
    explanation = (
        "GiB on the card, weights in host RAM, and the pinned memory that they take, with the copies pinned while "
        f"loading: before vLLM {resets_allocator.before} it is given out in powers of two for each tensor. Needed is "
        "the RAM of the whole run. Pinned memory is never swapped: swap space does not help."
    )
    table = render_columns(header, lines, right=range(2, 8))
    return _titled(f"A model larger than the card: memory=hybrid on one {machine}", table, explanation)
