"""Is a server that serves short of memory? Samples over time are folded into spells; a spell that lasts is a finding.

A spell begins with a bad sample and goes on as long as bad ones follow within a fifth of the window; while it is on,
the bound that counts as bad lies lower (hysteresis). It is sustained when it has lasted for the window
(`limits.pressure_seconds`) and most of its samples were bad. Nothing here looks at a clock: times are the samples' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nexus_orch.types import GIB, MIB, Finding, HostSample, Metric, MetricsUnread, Observation, PressureKind

FULL_KV, STILL_FULL_KV = 0.95, 0.85
"""Usage of the KV cache from which on requests wait for blocks, and below which they do not any more. A choice."""
LOW_RAM, STILL_LOW_RAM = 0.05, 0.08
"""Share of RAM that is free. The kernel starts to kill well below it."""
LEAST_PREEMPTIONS_PER_MINUTE = 2.0
SWAPPING_BYTES_PER_SECOND = MIB
BUS_SHARE = 0.8
"""Share of the speed that the bus allows from which on it is what limits."""
GAP_SHARE = 0.2
"""Part of the window for which a spell goes on without a bad sample."""
LEAST_GAP_SECONDS = 3.0
"""At least so long, whatever the window: samples come once a second, and a busy server misses one."""
BAD_SHARE = 0.5
"""Part of a spell's samples that must be bad; a counter that grows counts for the time between two steps, too."""
LEAST_SAMPLES = 3
BLIND_SECONDS = 30.0
"""How long a server may leave its metrics unanswered: a busy one misses some questions. A choice."""


@dataclass(frozen=True)
class Spell:
    """A time of trouble. `first` and `last` are a counter's values, `figures` the sums of what its samples told."""

    since: float
    seen: float
    """When a sample was bad last."""
    first: float
    last: float
    samples: int = 0
    bad: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.seen - self.since

    @property
    def rate_per_second(self) -> float:
        """How fast the counter grew."""
        return (self.last - self.first) / self.seconds if self.seconds > 0 else 0.0

    def mean(self, name: str) -> float:
        return self.figures.get(name, 0.0) / max(1, self.samples)


@dataclass(frozen=True)
class Pressure:
    """What is known of the lack of memory of one attempt.

    `window_seconds` is how long it must last. `step_seconds` is the time of one decode step that the plan predicts for
    the bus; None when nothing is offloaded or no speed is predicted.
    """

    window_seconds: float
    step_seconds: float | None = None
    spells: Mapping[PressureKind, Spell] = field(default_factory=dict)
    metric: Metric | None = None
    host: HostSample | None = None
    peak_kv_cache_usage: float = 0.0
    blind: MetricsUnread | None = None
    """Since when the server's metrics tell nothing, and why; None while they are read."""


def watch(pressure: Pressure, observation: Observation) -> Pressure:
    """The pressure after one more observation; only metrics and host samples tell anything."""
    match observation:
        case Metric():
            usage = observation.values.get("kv_cache_usage", 0.0)
            peak = max(pressure.peak_kv_cache_usage, usage)
            watched = _watch_all(replace(pressure, peak_kv_cache_usage=peak), observation, _METRIC_RULES)
            return replace(watched, metric=observation, blind=None)
        case MetricsUnread():
            since = observation.time if pressure.blind is None else pressure.blind.time
            return replace(pressure, blind=replace(observation, time=since))
        case HostSample():
            return replace(_watch_all(pressure, observation, _HOST_RULES), host=observation)
    return pressure


def find_blindness(pressure: Pressure, now: float) -> str | None:
    """Why the use of the KV cache and of the bus cannot be seen, once that has lasted; None while it can."""
    blind = pressure.blind
    lasts = blind is not None and now - blind.time >= min(BLIND_SECONDS, pressure.window_seconds)
    return blind.reason if blind is not None and lasts else None


def find_pressure(pressure: Pressure) -> tuple[Finding, ...]:
    """The spells that last, the most telling first."""
    return tuple(_describe(pressure, kind, spell) for kind, spell in _sustained(pressure))


def _sustained(pressure: Pressure) -> Iterator[tuple[PressureKind, Spell]]:
    for kind in _DESCRIPTIONS:
        spell = pressure.spells.get(kind)
        if spell is None or spell.seconds < pressure.window_seconds or spell.samples < LEAST_SAMPLES:
            continue
        if kind == "preemptions" and spell.rate_per_second * 60 < LEAST_PREEMPTIONS_PER_MINUTE:
            continue
        if kind == "preemptions" or spell.bad >= BAD_SHARE * spell.samples:
            yield kind, spell


@dataclass(frozen=True)
class _Symptom:
    """What one sample says about one kind of lack: whether it is bad, given that a spell is on or not."""

    is_bad: bool
    counter: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)


def _watch_all(
    pressure: Pressure, sample: Metric | HostSample, rules: Mapping[PressureKind, Callable[..., _Symptom | None]]
) -> Pressure:
    spells = dict(pressure.spells)
    for kind, rule in rules.items():
        gap = max(LEAST_GAP_SECONDS, GAP_SHARE * pressure.window_seconds)
        spell = _living(spells.pop(kind, None), sample.time, gap)
        reading = rule(pressure, sample, spell is not None)
        if reading is not None:
            spell = _prolong(spell, reading, sample.time)
        if spell is not None:
            spells[kind] = spell
    return replace(pressure, spells=spells)


def _living(spell: Spell | None, now: float, gap_seconds: float) -> Spell | None:
    """The spell, unless nothing bad was seen for too long or the clock was set back."""
    return spell if spell is not None and 0 <= now - spell.seen <= gap_seconds else None


def _prolong(spell: Spell | None, reading: _Symptom, now: float) -> Spell | None:
    if spell is None and not reading.is_bad:
        return None
    if spell is None or reading.counter < spell.last:  # a counter that fell belongs to another server
        spell = Spell(now, now, reading.counter, reading.counter)
    figures = {name: spell.figures.get(name, 0.0) + value for name, value in reading.figures.items()}
    return replace(
        spell,
        seen=now if reading.is_bad else spell.seen,
        last=reading.counter if reading.is_bad else spell.last,
        samples=spell.samples + 1,
        bad=spell.bad + reading.is_bad,
        figures=figures,
    )


def _figures(metric: Metric) -> dict[str, float]:
    return {name: metric.values.get(name, 0.0) for name in ("running", "waiting", "kv_cache_usage")}


def _preemptions(pressure: Pressure, metric: Metric, on: bool) -> _Symptom | None:
    count, before = metric.values.get("preemptions"), pressure.metric
    if count is None or before is None:
        return None
    return _Symptom(count > before.values.get("preemptions", count), count, _figures(metric))


def _kv_cache_full(pressure: Pressure, metric: Metric, on: bool) -> _Symptom | None:
    usage = metric.values.get("kv_cache_usage")
    if usage is None:
        return None
    is_full = usage >= (STILL_FULL_KV if on else FULL_KV)
    return _Symptom(is_full and metric.values.get("waiting", 0.0) > 0, figures=_figures(metric))


def _bus_bound(pressure: Pressure, metric: Metric, on: bool) -> _Symptom | None:
    """Every step carries the offloaded weights over the bus once, whatever the number of requests: so many requests
    cannot get more than one token each in the time of one copy."""
    rate, running = metric.values.get("generation_tokens_per_second"), metric.values.get("running", 0.0)
    if pressure.step_seconds is None or rate is None:
        return None
    has_room = metric.values.get("kv_cache_usage", 0.0) < STILL_FULL_KV
    near = running > 0 and rate * pressure.step_seconds >= BUS_SHARE * running
    is_bad = near and has_room and metric.values.get("waiting", 0.0) > 0
    return _Symptom(is_bad, figures={**_figures(metric), "tokens": rate})


def _ram_low(pressure: Pressure, host: HostSample, on: bool) -> _Symptom | None:
    if not host.ram_total_bytes:
        return None
    free = host.ram_total_bytes - host.ram_used_bytes
    held = host.engine_bytes
    is_low = free < (STILL_LOW_RAM if on else LOW_RAM) * host.ram_total_bytes
    return _Symptom(is_low, figures={"free": free, "held": held, "total": host.ram_total_bytes})


def _swapping(pressure: Pressure, host: HostSample, on: bool) -> _Symptom | None:
    moved, before = host.swapped_bytes, pressure.host
    if moved is None or before is None or before.swapped_bytes is None or host.time <= before.time:
        return None
    rate = (moved - before.swapped_bytes) / (host.time - before.time)
    held = host.engine_bytes
    return _Symptom(rate >= SWAPPING_BYTES_PER_SECOND, moved, {"held": held, "used": host.swap_used_bytes})


_METRIC_RULES: Mapping[PressureKind, Callable[..., _Symptom | None]] = {
    "preemptions": _preemptions,
    "kv_cache_full": _kv_cache_full,
    "bus_bound": _bus_bound,
}
_HOST_RULES: Mapping[PressureKind, Callable[..., _Symptom | None]] = {"ram_low": _ram_low, "swapping": _swapping}


def _describe(pressure: Pressure, kind: PressureKind, spell: Spell) -> Finding:
    evidence = _DESCRIPTIONS[kind](spell, _duration(spell.seconds))
    preempted = pressure.spells.get("preemptions")
    if kind == "kv_cache_full" and preempted is not None:
        evidence += f", and {preempted.rate_per_second * 60:.0f} preemptions a minute"
    return Finding(
        kind,
        spell.seconds,
        evidence,
        running=spell.mean("running"),
        waiting=spell.mean("waiting"),
        kv_cache_usage=spell.mean("kv_cache_usage"),
        peak_kv_cache_usage=pressure.peak_kv_cache_usage,
    )


def _describe_preemptions(spell: Spell, lasted: str) -> str:
    return (
        f"{spell.rate_per_second * 60:.0f} preemptions a minute for {lasted}: the KV cache is full at "
        f"{spell.mean('running'):.0f} requests"
    )


def _describe_full_cache(spell: Spell, lasted: str) -> str:
    return (
        f"the KV cache has been {spell.mean('kv_cache_usage'):.0%} full for {lasted}, with "
        f"{spell.mean('running'):.0f} requests running and {spell.mean('waiting'):.0f} waiting"
    )


def _describe_bus(spell: Spell, lasted: str) -> str:
    return (
        f"{spell.mean('tokens'):.1f} tokens/s for {lasted} with {spell.mean('running'):.0f} requests is what the bus "
        f"allows, and {spell.mean('waiting'):.0f} requests wait"
    )


def _describe_low_ram(spell: Spell, lasted: str) -> str:
    return (
        f"{spell.mean('free') / GIB:.1f} of {spell.mean('total') / GIB:.1f} GiB RAM have been free for {lasted}; the "
        f"engine's processes hold {spell.mean('held') / GIB:.1f} GiB"
    )


def _describe_swapping(spell: Spell, lasted: str) -> str:
    return (
        f"{spell.rate_per_second / MIB:.0f} MiB/s have moved to and from swap for {lasted}; the engine's processes "
        f"hold {spell.mean('held') / GIB:.1f} GiB of RAM"
    )


_DESCRIPTIONS: Mapping[PressureKind, Callable[[Spell, str], str]] = {
    "preemptions": _describe_preemptions,
    "kv_cache_full": _describe_full_cache,
    "swapping": _describe_swapping,
    "ram_low": _describe_low_ram,
    "bus_bound": _describe_bus,
}
"""By kind, the most telling first."""


def _duration(seconds: float) -> str:
    """Whole minutes from two on, else seconds."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
