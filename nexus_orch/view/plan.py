"""The plan as a person reads it: the verdict first, then each card as a bar, the settings with reasons, the command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from nexus_orch.errors import render_value
from nexus_orch.types import GIB, Alternative, Choice, Plan, RunSpec
from nexus_orch.view.cards import render_cards
from nexus_orch.view.trimmed import print_trimmed
from nexus_orch.view.words import render_bytes, render_count, render_duration

NARROW = 100
"""Below this many columns a setting's reason stands under it, not beside it."""
WIDEST = 140
SHIPPED = "conf/"
"""How the origin of a value begins that a shipped profile wrote (compose/search_path.py, shown_path)."""


def print_plan(plan: Plan, argv: Sequence[str], env: Mapping[str, str], stream: TextIO) -> None:
    """Print the plan to a terminal in colour, to a pipe as plain text. `env` must be free of secrets."""
    console = Console(file=stream, highlight=False)
    if stream.isatty():
        console.print(render_plan(plan, argv, env, console.width, ascii_only=_is_ascii(stream)), crop=False)
        return
    console.width = min(max(console.width, 80), WIDEST)
    print_trimmed(console, render_plan(plan, argv, env, console.width, ascii_only=_is_ascii(stream)))


def render_plan(
    plan: Plan, argv: Sequence[str], env: Mapping[str, str], width: int, *, ascii_only: bool = False
) -> RenderableType:
    """The whole plan for a console of `width` columns. Print it with `crop=False`: the command is never cut."""
    width = min(width, WIDEST)
    sections = [
        _verdict(plan),
        *_problems(plan),
        *render_cards(plan, width, ascii_only=ascii_only),
        *_summary(plan),
        *_alternatives(plan),
        *_settings(plan, width),
        *_notes(plan),
        *(_command(argv, env) if plan.fits else ()),
    ]
    return Group(*sections)


def _is_ascii(stream: TextIO) -> bool:
    return "utf" not in (getattr(stream, "encoding", None) or "utf-8").lower()


def _verdict(plan: Plan) -> RenderableType:
    text = Text()
    words, colour = ("fits", "bold green") if plan.fits else ("does not fit", "bold red")
    words += ", borderline" if plan.prediction.borderline else ""
    text.append(f"{'refused' if plan.is_refused else words}: ", colour)
    loader = "" if plan.loader in ("cpu", "none") else f" with {plan.loader}"
    text.append(f"{plan.model} on {_where(plan)}{loader}, vLLM {plan.engine_version}")
    return text


def _where(plan: Plan) -> str:
    if plan.loader == "cpu":
        return "the CPU"
    if not plan.per_gpu:
        return plan.spec.hardware.name
    counts: dict[int, int] = {}
    for card in plan.per_gpu:
        counts[card.total_bytes] = counts.get(card.total_bytes, 0) + 1
    named = [f"{count} x {total / GIB:.1f} GiB" for total, count in counts.items()]
    return f"{' and '.join(named)} ({plan.spec.hardware.name})"


def _problems(plan: Plan) -> Iterator[RenderableType]:
    for problem in plan.problems:
        text = Text()
        text.append(f"{problem.cause or ('mistake' if problem.is_mistake else 'problem')}: ", "bold red")
        text.append(problem.message)
        if problem.key is not None and problem.origin is not None:
            text.append(f"\n{problem.key} = {render_value(problem.value)}  ({problem.origin})", "dim")
        if problem.remedy is not None:
            text.append("\nremedy: ", "bold")
            text.append(problem.remedy)
        yield Padding(text, (1, 0, 0, 2), expand=False)


def _summary(plan: Plan) -> Iterator[RenderableType]:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    prediction = plan.prediction
    if plan.kv_cache_tokens:
        low, high = prediction.kv_cache_tokens_low, prediction.kv_cache_tokens_high
        span = f" (between {render_count(low)} and {render_count(high)})" if low != high else ""
        table.add_row("KV cache", f"{render_count(plan.kv_cache_tokens)} tokens{span}")
        table.add_row("context", f"{render_count(plan.max_model_len)} tokens, {plan.max_concurrency:g} at once")
    host = plan.host
    if not host.required_bytes:
        return
    pinned = f", {render_bytes(host.pinned_bytes)} of it pinned" if host.pinned_bytes else ""
    table.add_row(
        "host RAM", f"{render_bytes(host.required_bytes)} of {render_bytes(host.available_bytes)} available{pinned}"
    )
    for row in _host_parts(plan):
        table.add_row(*row)
    if prediction.decode_tokens_per_second is not None and plan.fits:
        speed = f"about {prediction.decode_tokens_per_second:.3g} tokens/s for one request"
        if prediction.time_to_first_token_seconds is not None:
            prompt = render_count(plan.spec.workload.input_tokens)
            wait = render_duration(prediction.time_to_first_token_seconds)
            speed += f", the first after {wait} (prompt of {prompt} tokens)"
        if prediction.tokens_per_second is not None and prediction.requests_at_once > 1:
            many = render_count(prediction.requests_at_once)
            speed += f"; {prediction.tokens_per_second:.3g} tokens/s for {many} at once, prompts included"
        table.add_row("speed", speed)
    yield Padding(table, (1, 0, 0, 0), expand=False)


def _host_parts(plan: Plan) -> Iterator[tuple[str, str]]:
    """What the RAM is for, in parts of a percent at least, and what the rule of thumb would have asked for, where
    weights or KV blocks lie in it."""
    host = plan.host
    if not host.pinned_bytes:
        return
    yield "", ", ".join(f"{name} {render_bytes(size)}" for name, size in host.parts)
    if host.rule_of_thumb_bytes:
        rule, swap = render_bytes(host.rule_of_thumb_bytes), render_bytes(host.rule_of_thumb_swap_bytes)
        yield "", f"(the rule of thumb: {rule}, twice the model, and {swap} of swap, which locked memory cannot use)"


def _alternatives(plan: Plan) -> Iterator[RenderableType]:
    """What else fits, or is better: each with what it brings."""
    found = plan.prediction.alternatives
    if found:
        yield Padding(Text("alternatives" if plan.fits else "what would fit", "bold"), (1, 0, 0, 0), expand=False)
    for number, alternative in enumerate(found, 1):
        text = Text(f"{number}. ")
        text.append(alternative.change, "bold")
        text.append(f": {_figures(alternative)}")
        if alternative.effect:
            text.append(f" ({alternative.effect})", "dim")
        yield Padding(text, (0, 0, 0, 2), expand=False)


def _figures(alternative: Alternative) -> str:
    figures = f"context {render_count(alternative.max_model_len)}, {alternative.max_concurrency:g} at once"
    speed = alternative.decode_tokens_per_second
    return figures if speed is None else f"{figures}, about {speed:.3g} tokens/s"


def _settings(plan: Plan, width: int) -> Iterator[RenderableType]:
    """Every choice with its reason; what the user pinned is marked. Of a plan that does not fit only the latter."""
    choices = [c for c in plan.choices if plan.fits or (c.origin == "pinned" and not is_shipped_default(c, plan.spec))]
    if choices:
        yield Padding(Text("settings" if plan.fits else "pinned", "bold"), (1, 0, 0, 0), expand=False)
    if width < NARROW:
        for choice in choices:
            yield Padding(_setting(choice), (0, 0, 0, 2), expand=False)
            yield Padding(_reason(choice, plan.spec), (0, 0, 0, 6), expand=False)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=width // 2, overflow="fold")
    table.add_column(ratio=1)
    for choice in choices:
        table.add_row(_setting(choice), _reason(choice, plan.spec))
    yield Padding(table, (0, 0, 0, 2), expand=False)


def _setting(choice: Choice) -> Text:
    value = " ".join(map(str, choice.value)) if isinstance(choice.value, tuple | list) else _plain(choice.value)
    text = Text(f"{choice.key} = ")
    text.append(value, "bold")
    return text


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(choice: Choice, spec: RunSpec) -> Text:
    if choice.origin == "derived":
        return Text(choice.reason, "dim")
    if is_shipped_default(choice, spec):
        return Text(f"default: {choice.reason}", "dim")
    text = Text(choice.origin, "bold cyan" if choice.origin == "pinned" else "bold magenta")
    text.append(f": {choice.reason}", "dim")
    return text


def is_shipped_default(choice: Choice, spec: RunSpec) -> bool:
    """Whether a pinned value is what a run has anyway, written out in a shipped profile: nobody asked for it."""
    origin = spec.origin(choice.key)
    if choice.origin != "pinned" or origin is None or not origin.startswith(SHIPPED):
        return False
    default = RunSpec(name="").get(choice.key)
    return default is not None and bool(choice.value == default)


def _notes(plan: Plan) -> Iterator[RenderableType]:
    notes = (*plan.prediction.notes, *plan.notes)
    if notes:
        yield Padding(Text("notes", "bold"), (1, 0, 0, 0), expand=False)
    for note in notes:
        yield Padding(Text(f"- {note}"), (0, 0, 0, 2), expand=False)


@dataclass(frozen=True)
class _Verbatim:
    """Text that is printed as it is: not wrapped, and without the blanks with which rich fills lines."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(f"{self.text}\n")


def _command(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[RenderableType]:
    if argv:
        yield Padding(Text("command", "bold"), (1, 0, 0, 0), expand=False)
        yield _Verbatim(render_command(argv, env))


def render_command(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """The command as it can be pasted into a shell: one option on each line, however long, and nothing after the
    backslash that continues it."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in env.items()]
    current = ""
    for word in argv:
        if word.startswith("--") and current:
            lines.append(current)
            current = ""
        current = f"{current} {shlex.quote(word)}" if current else shlex.quote(word)
    lines.append(current)
    return "  " + " \\\n    ".join(lines)
