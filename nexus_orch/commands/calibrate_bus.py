"""`nexus calibrate --bus`: how fast this machine's bus is, measured once and used by every later plan."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path

from nexus_orch.bus.measure import measure_bus, require_engine
from nexus_orch.choose import choose_engine
from nexus_orch.compose.run import compose_run
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.facts.machine.machine import read_machine
from nexus_orch.facts.model.model import read_model
from nexus_orch.files import write_result
from nexus_orch.judge.learned.bus import BusMeasurement
from nexus_orch.judge.learned.case import make_machine_key
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.estimate.bus_rates import layer_matrices
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.record.learned import SWITCH, bus_path, is_learning
from nexus_orch.record.store import append_record
from nexus_orch.types import EngineFacts, Facts, GpuFacts, MachineFacts, RunSpec
from nexus_orch.view.bus import render_bus


def run_bus(args: argparse.Namespace, project: Path | None, out: Path | None) -> int:
    """Measure, keep and show. Raises ConfigError without a card or an engine of this machine."""
    plugins = load_plugins(project)
    spec = compose_run(args.overrides, project=project, judge=plugins.judge)
    machine = read_machine(spec.hardware, spec.origins)
    gpus = _require_cards(machine)
    provider = choose_engine(plugins.engines(), spec.engine.kind, spec.origins)
    engine, python = require_engine(provider.find(spec, cpu=False))
    measured = measure_bus(python, gpus, _tell, layer=_find_layer(spec, machine, engine))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    found = BusMeasurement(today, make_machine_key(machine), measured.cards, measured.ram_bytes_per_second)
    if is_learning():
        append_record(bus_path(), found)
    else:
        sys.stderr.write(f"{SWITCH}=0: the result is shown, not kept\n")
    text = json.dumps(asdict(found), indent=1) + "\n"
    if out is not None:
        write_result(out, text)
    sys.stdout.write(text if args.format == "json" else render_bus(found, markdown=args.format == "md"))
    return ExitCode.GOOD


def _find_layer(spec: RunSpec, machine: MachineFacts, engine: EngineFacts) -> tuple[tuple[int, int], ...]:
    """The matrices of one layer of the run's model on one rank; none where the model cannot be read, or where other
    kernels than plain products read its weights. The bus is measured all the same."""
    try:
        inputs = read_inputs(spec, Facts(read_model(spec.model, spec.origins), machine, engine), ())
        parallelism = choose_parallelism(inputs)
        layout = inputs.weight_layout(parallelism.tensor_parallel, parallelism.pipeline_parallel, whole_segments=True)
    except ConfigError as error:
        sys.stderr.write(f"the layers of {spec.model.name} are not measured: {error.problems[0].message}\n")
        return ()
    found = layer_matrices(layout)
    if not found:
        sys.stderr.write(f"the layers of {spec.model.name} are not measured: only plain 16-bit matrices are\n")
    return found


def _tell(card: str) -> None:
    sys.stderr.write(f"measuring the bus of {card}\n")


def _require_cards(machine: MachineFacts) -> tuple[GpuFacts, ...]:
    if not machine.gpus:
        raise ConfigError(Problem("the bus leads to a card, and this run has none", "--bus", origin="command line"))
    if not machine.is_this_machine:
        message = f"{machine.name} describes a machine that is not this one: its bus cannot be measured here"
        raise ConfigError(Problem(message, "hardware", machine.name, "command line", "leave hardware out"))
    return machine.gpus
