"""What changes for a run between two engines, as a person reads it: figures, settings, command, rules, options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nexus_orch.adapt.difference import Change, Difference, Said, SettingChange, Side, describe_change
from nexus_orch.types import Flag, GpuEstimate, Plan
from nexus_orch.view.trimmed import print_trimmed
from nexus_orch.view.words import NOTHING, render_bytes, render_count, render_duration

NARROWEST, WIDEST = 80, 120

_CHANGES: Mapping[Change, tuple[str, str]] = {
    "appears": ("new", "green"),
    "vanishes": ("gone", "yellow"),
    "refused": ("refused", "bold red"),
    "accepted": ("no longer refused", "green"),
    "value": ("another value", "cyan"),
    "renamed": ("said by another option", "cyan"),
    "written": ("written differently", "cyan"),
    "reason": ("the same for another reason", "dim"),
}
_SIGNS = {"-": "red", "+": "green", " ": "dim"}
_RULES: Mapping[str, str] = {
    "name": "what accounts for memory",
    "default_utilization": "share of memory by default",
    "sampler": "sampler in the memory profile",
    "graphs_reserved": "CUDA graphs are kept out of the KV cache",
    "both_graph_kinds": "CUDA graphs of both kinds (piecewise and full)",
    "captures_own_sizes": "the largest batch has a CUDA graph of its own",
    "fine_graph_sizes": "CUDA graphs in steps of 8 up to 512",
    "whole_segments": "the allocator keeps whole segments of 2 MiB",
    "largest_batches": "larger batches by default on cards from 160 GiB",
    "profiles_prompt": "the profile runs one prompt of max_model_len",
    "free_compared": "all that is taken before the KV cache is counted against it",
    "is_early": "hardly a launch is known: a wider range",
    "profiles_towers": "the vision tower is profiled",
    "latents": "latent attention caches one vector for all heads",
    "handles_first": "the handles of cuBLAS are not counted",
    "offload_ignored": "weight offloading is ignored without a word",
    "hybrid": "layers of different kinds have cache groups of their own",
    "even_groups": "kinds of layers in similar number share a group size",
    "null_block": "one block of the KV cache is kept aside",
    "tokens_by_concurrency": "KV tokens are printed as concurrency x context",
}
"""The accounting rules (`nexus_orch.plan.release.generations.Generation`) in words."""


def print_difference(difference: Difference, stream: TextIO, *, lists_options: bool = False) -> None:
    """Print to a terminal in colour, to a pipe as plain text."""
    console = Console(file=stream, highlight=False)
    console.width = min(max(console.width, NARROWEST), WIDEST)
    sections = [
        _headline(difference),
        *_notes(difference),
        *_problems(difference),
        *_figures(difference),
        *_settings(difference),
        *_command(difference),
        *_rules(difference),
        *_options(difference, lists_options=lists_options),
    ]
    print_trimmed(console, Group(*sections))


def _titled(title: str, *content: RenderableType) -> Iterator[RenderableType]:
    yield Padding(Text(title, "bold"), (1, 0, 0, 0), expand=False)
    yield from (Padding(part, (0, 0, 0, 2), expand=False) for part in content)


def _headline(difference: Difference) -> RenderableType:
    before, after = difference.before, difference.after
    name = f"{after.plan.model} on {after.plan.spec.hardware.name}"
    if difference.is_same_engine:
        return Text(f"{name}: both sides are the same vLLM {after.engine.version}; nothing changes", "bold")
    text = Text(f"{name}: vLLM {before.engine.version} -> {after.engine.version}", "bold")
    if not difference.settings and not _changed_lines(difference):
        text.append("\nthis run is started in the same way by both", "green")
    return text


def _notes(difference: Difference) -> Iterator[RenderableType]:
    for note in dict.fromkeys((*difference.before.engine.notes, *difference.after.engine.notes)):
        yield Text(f"note: {note}", "dim")


def _problems(difference: Difference) -> Iterator[RenderableType]:
    """Why one side cannot run, with what would do."""
    for side in (difference.before, difference.after):
        for problem in side.plan.problems:
            text = Text(f"{side.engine.version}: ", "bold red")
            text.append(problem.message, "default")
            if problem.remedy:
                text.append(f"\nremedy: {problem.remedy}", "dim")
            yield Padding(text, (1, 0, 0, 2), expand=False)


# Figures


def _figures(difference: Difference) -> Iterator[RenderableType]:
    before, after = difference.before, difference.after
    table = Table(box=None, pad_edge=False, show_header=True, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column(before.engine.version)
    table.add_column(after.engine.version)
    for title, render in _ROWS:
        cells = render(before), render(after)
        if cells != (NOTHING, NOTHING):
            table.add_row(title, *cells, style="dim" if cells[0] == cells[1] else None)
    yield Padding(table, (1, 0, 0, 0), expand=False)


def _verdict(side: Side) -> str:
    if side.plan.is_refused:
        return "refused"
    if not side.plan.fits:
        return "does not fit"
    return "fits, borderline" if side.plan.prediction.borderline else "fits"


def _of_plan(render: Callable[[Plan], str]) -> Callable[[Side], str]:
    return lambda side: render(side.plan)


def _of_cards(read: Callable[[GpuEstimate], int]) -> Callable[[Side], str]:
    """The largest figure among the cards; nothing when there is none."""
    return lambda side: render_bytes(max(map(read, side.plan.per_gpu), default=0) or None)


def _speed(plan: Plan) -> str:
    speed = plan.prediction.decode_tokens_per_second
    return NOTHING if speed is None else f"{speed:.3g} tokens/s"


def _batching(side: Side) -> str:
    if side.batching is None:
        return NOTHING
    tokens, requests = side.batching
    return f"{render_count(tokens)} tokens, {render_count(requests)} requests"


_ROWS: tuple[tuple[str, Callable[[Side], str]], ...] = (
    ("verdict", _verdict),
    ("adapter, model runner", lambda side: f"{side.adapter}, {side.generation.name}"),
    ("strategy", _of_plan(lambda plan: plan.loader)),
    ("KV cache", _of_plan(lambda plan: f"{render_count(plan.kv_cache_tokens)} tokens" if plan.per_gpu else NOTHING)),
    ("context", _of_plan(lambda plan: f"{render_count(plan.max_model_len)} tokens" if plan.per_gpu else NOTHING)),
    (
        "requests of that context at once",
        _of_plan(lambda plan: f"{plan.max_concurrency:g}" if plan.per_gpu else NOTHING),
    ),
    ("weights on a card", _of_cards(lambda card: card.weights_bytes)),
    ("weights of a card in host RAM", _of_cards(lambda card: card.offloaded_bytes)),
    ("offload buffer on a card", _of_cards(lambda card: card.static_pool_bytes)),
    ("activations on a card", _of_cards(lambda card: card.activation_bytes)),
    ("CUDA graphs on a card", _of_cards(lambda card: card.cuda_graph_bytes)),
    ("host RAM", _of_plan(lambda plan: render_bytes(plan.host.required_bytes or None))),
    ("one request", _of_plan(_speed)),
    ("first token", _of_plan(lambda plan: render_duration(plan.prediction.time_to_first_token_seconds))),
)


# Settings


def _settings(difference: Difference) -> Iterator[RenderableType]:
    if not difference.settings:
        return
    versions = difference.before.engine.version, difference.after.engine.version
    yield from _titled("settings", *(_setting(change, versions) for change in difference.settings))


def _setting(change: SettingChange, versions: tuple[str, str]) -> RenderableType:
    words, colour = _CHANGES[change.change]
    title = Text(change.key, "bold")
    title.append(f"  {words}", colour)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    for version, said in zip(versions, (change.before, change.after), strict=True):
        if said is not None:
            table.add_row(version, _said(said))
    return Group(title, Padding(table, (0, 0, 0, 2)))


def _said(said: Said) -> Text:
    if said.refused is not None:
        return Text(f"{_plain(said.value)}: {said.refused}", "red")
    text = Text("left out" if said.value is None else _plain(said.value), "bold")
    text.append(f": {said.reason}", "not bold")
    return text


def _plain(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


# Command


def _changed_lines(difference: Difference) -> int:
    return sum(sign != " " for sign, _ in difference.command)


def _command(difference: Difference) -> Iterator[RenderableType]:
    if _changed_lines(difference):
        yield from _titled("command", *(Text(f"{sign} {line}", _SIGNS[sign]) for sign, line in difference.command))


# Rules and options


def _rules(difference: Difference) -> Iterator[RenderableType]:
    """What the engines do by themselves: their accounting, and the defaults of the options that settings use."""
    rows = [
        (_RULES.get(rule, rule.replace("_", " ")), _word(before), _word(after))
        for rule, before, after in difference.rules
    ]
    batching = _batching(difference.before), _batching(difference.after)
    if len(set(batching)) > 1:
        rows.append(("batch by default", *batching))
    if rows:
        yield from _titled("what the engine counts and takes by itself", _pairs(rows, difference))


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _pairs(rows: Iterable[tuple[str, str, str]], difference: Difference) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column(difference.before.engine.version)
    table.add_column(difference.after.engine.version)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _options(difference: Difference, *, lists_options: bool) -> Iterator[RenderableType]:
    options = difference.options
    used = [(after.name, "; ".join(describe_change(before, after))) for before, after in options.of_settings]
    if used:
        yield from _titled("options that settings are said with", _listing(used))
    before, after = options.counts
    summary = (
        f"{before} in {difference.before.engine.version}, {after} in {difference.after.engine.version}: "
        f"{len(options.appeared)} appeared, {len(options.vanished)} vanished, {len(options.changed)} changed"
    )
    if not (options.appeared or options.vanished or options.changed):
        return
    if not lists_options:
        yield from _titled("all options of vllm serve", Text(f"{summary} (--options lists them)"))
        return
    yield from _titled("all options of vllm serve", Text(summary))
    yield from _titled("appeared", _listing((flag.name, _default(flag)) for flag in options.appeared))
    yield from _titled("vanished", _listing((flag.name, _default(flag)) for flag in options.vanished))
    changed = ((after.name, "; ".join(describe_change(before, after))) for before, after in options.changed)
    yield from _titled("changed", _listing(changed))


def _default(flag: Flag) -> str:
    return "" if flag.default is None else f"default {json.dumps(flag.default)}"


def _listing(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
