"""The lines of the live view that show memory, load and rates: cards, host, processes, server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.text import Text

from nexus_orch.types import GIB, GpuSample, HostSample, ProcessSample
from nexus_orch.view.server import render_readings
from nexus_orch.view.words import render_bytes

PROCESSES_SHOWN = 8
SHORTEST_BAR, LONGEST_BAR = 4, 40
WARM_CELSIUS, HOT_CELSIUS = 80, 88
"""Data-centre and desktop cards of the last generations slow down at 83 to 90 degrees."""


@dataclass(frozen=True)
class Glyphs:
    """The signs of the view; a terminal without Unicode gets plain ones."""

    full: str = "█"
    empty: str = "░"
    rule: str = "─"
    done: str = "✓"
    now: str = "▸"
    open: str = "·"
    dot: str = "●"
    between: str = " · "
    degree: str = "°C"


UNICODE = Glyphs()
ASCII = Glyphs("#", ".", "-", "+", ">", ".", "*", " | ", "C")


def make_bar(fraction: float, width: int, glyphs: Glyphs, style: str = "green") -> Text:
    """A bar that is filled to this fraction of 1."""
    filled = round(min(max(fraction, 0.0), 1.0) * width)
    return Text().append(glyphs.full * filled, style=style).append(glyphs.empty * (width - filled), style="dim")


def make_gpu_lines(gpus: Iterable[GpuSample], width: int, glyphs: Glyphs) -> Iterator[Text]:
    """One line for each card: memory, utilisation, temperature, power, as far as the driver tells."""
    cards = [(gpu, gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")) for gpu in gpus]
    name_width = min(max((len(name) for _, name in cards), default=0), max(4, width // 5))
    for gpu, name in cards:
        head = Text(f" {gpu.index} {name:<{name_width}.{name_width}} ")
        figures = _gpu_figures(gpu, glyphs)
        room = _bar_room(width - head.cell_len - figures.cell_len - 1)
        bar = make_bar(_share(gpu.memory_used_bytes, gpu.memory_total_bytes), room, glyphs, "cyan")
        yield head.append_text(bar).append_text(figures)


def make_host_lines(host: HostSample, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """RAM and swap in one line, then the largest engine processes."""
    memories = [("RAM", host.ram_used_bytes, host.ram_total_bytes)]
    if host.swap_total_bytes:
        memories.append(("swap", host.swap_used_bytes, host.swap_total_bytes))
    texts = [(f" {label} ", f" {used / GIB:.1f} / {render_bytes(total)}  ") for label, used, total in memories]
    room = _bar_room((width - sum(len(before) + len(after) for before, after in texts)) // len(texts))
    line = Text()
    for (before, after), (_, used, total) in zip(texts, memories, strict=True):
        share = _share(used, total)
        line.append(before).append_text(make_bar(share, room, glyphs, _fill_style(share))).append(after)
    yield line
    largest = sorted(host.processes, key=lambda process: process.rss_bytes, reverse=True)[:PROCESSES_SHOWN]
    yield from _flow(map(_process_cell, largest), width)


def make_server_lines(metrics: Mapping[str, float], width: int) -> Iterator[Text]:
    """What the server says about its work."""
    cells = (
        Text(" ").append(label, style="dim").append(f" {text} ", style="bold")
        for label, text in render_readings(metrics)
    )
    yield from _flow(cells, width)


def _gpu_figures(gpu: GpuSample, glyphs: Glyphs) -> Text:
    figures = Text(f" {gpu.memory_used_bytes / GIB:5.1f} / {render_bytes(gpu.memory_total_bytes)}")
    if gpu.utilization is not None:
        figures.append(f" {gpu.utilization:5.0%}")
    if gpu.temperature_celsius is not None:
        figures.append(f" {gpu.temperature_celsius:4.0f} {glyphs.degree}", style=_heat_style(gpu.temperature_celsius))
    if gpu.power_watts is not None:
        figures.append(f" {gpu.power_watts:5.0f} W")
    return figures


def _process_cell(process: ProcessSample) -> Text:
    name = f"{process.name.removeprefix('VLLM::'):<14.14} {process.pid:>7}"
    return Text(f" {name} {render_bytes(process.rss_bytes):>8} {process.cpu_fraction:5.0%} ")


def _flow(cells: Iterable[Text], width: int) -> Iterator[Text]:
    """As many cells in a line as fit."""
    line = Text()
    for cell in cells:
        if line.cell_len and line.cell_len + cell.cell_len > width:
            yield line
            line = Text()
        line.append_text(cell)
    if line.cell_len:
        yield line


def _bar_room(cells: int) -> int:
    return min(max(cells, SHORTEST_BAR), LONGEST_BAR)


def _heat_style(celsius: float) -> str:
    if celsius < WARM_CELSIUS:
        return ""
    return "yellow" if celsius < HOT_CELSIUS else "bold red"


def _fill_style(share: float) -> str:
    """Host memory that is nearly full is the way to the kernel's out-of-memory killer."""
    if share < 0.85:
        return "green"
    return "yellow" if share < 0.95 else "red"


def _share(used: float, total: float) -> float:
    return used / total if total > 0 else 0.0
