"""A calibration as tables: one line for each quantity that was measured or predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nexus_orch.types import GIB
from nexus_orch.view.words import NOTHING, render_columns, render_count, render_markdown_table, render_rate

QUANTITIES = {
    "weights_bytes": "weights",
    "overhead_bytes": "activation peak + outside PyTorch",
    "activation_bytes": "activation peak",
    "non_torch_bytes": "outside PyTorch",
    "cuda_graph_bytes": "CUDA graphs",
    "kv_cache_bytes": "KV cache",
    "kv_cache_tokens": "KV tokens",
    "tokens_per_second": "tokens/s",
}
HEADER = ("launch", "quantity", "predicted", "measured", "error", "%", "after learning", "%")
_RIGHT = range(2, len(HEADER))


def render_calibration(document: Mapping[str, Any], *, markdown: bool = False) -> str:
    """The tables of a calibration document (see nexus_orch.sweep.calibration). Sizes are GiB of one rank."""
    launches: Sequence[Mapping[str, Any]] = document["launches"]
    shared = [text for text in launches[0]["overrides"] if all(text in launch["overrides"] for launch in launches)]
    names = [_name(launch, () if len(launches) == 1 else shared) for launch in launches]
    rows = [row for name, launch in zip(names, launches, strict=True) for row in _make_rows(name, launch)]
    parts = list(_make_intro(document, launches))
    if shared and len(launches) > 1:
        parts.append(f"all with {' '.join(shared)}\n")
    if rows:
        render = render_markdown_table if markdown else render_columns
        parts.append(render(HEADER, rows, _RIGHT))
    parts += [
        f"{name}: {str(launch['outcome']).replace('_', ' ')}: {launch['cause'] or launch['message']}\n"
        for name, launch in zip(names, launches, strict=True)
        if launch["outcome"] != "measured"
    ]
    return "\n".join(parts)


def _make_intro(document: Mapping[str, Any], launches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    places = {f"{launch['engine']} on {launch['machine']}" for launch in launches if launch["machine"]}
    for place in sorted(places):
        yield f"{place}, {document['date']}; sizes in GiB of one rank\n"


def _make_rows(name: str, launch: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for quantity, words in QUANTITIES.items():
        measured = launch["measured"].get(quantity)
        if measured is None:
            continue
        predicted, learned = launch["predicted"].get(quantity), launch["learned"].get(quantity)
        yield (
            name,
            words,
            _render(quantity, predicted),
            _render(quantity, measured),
            NOTHING if predicted is None else _render(quantity, predicted - measured, signed=True),
            _render_share(predicted, measured),
            _render(quantity, learned),
            _render_share(learned, measured),
        )
        name = ""


def _name(launch: Mapping[str, Any], shared: Sequence[str]) -> str:
    return " ".join((launch["model"], *(text for text in launch["overrides"] if text not in shared)))


def _render(quantity: str, value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return NOTHING
    if quantity.endswith("_bytes"):
        return f"{value / GIB:{'+' if signed else ''}z.2f}"
    sign = "+" if signed and value > 0 else ""
    return sign + (render_count(value) if quantity == "kv_cache_tokens" else render_rate(value))


def _render_share(predicted: float | None, measured: float) -> str:
    return NOTHING if predicted is None or not measured else f"{predicted / measured - 1:+z.1%}"
