"""`nexus bench`: how fast a server answers at given loads, measured from outside."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace

from nexus_orch import __version__, paths
from nexus_orch.commands.known_runs import read_ended, read_known_run, read_open_runs
from nexus_orch.errors import ConfigError, ExitCode, LaunchError, Problem
from nexus_orch.record.find import find_run
from nexus_orch.record.run_record import RunRecord
from nexus_orch.sweep.measure.of_run import target_of_run, target_of_url
from nexus_orch.sweep.measure.take import take_measurement
from nexus_orch.sweep.measure.types import ROUNDS, BenchResult, BenchTarget, Load, make_load
from nexus_orch.sweep.measure.vllm_bench import BenchUnavailable
from nexus_orch.types import WorkloadSpec
from nexus_orch.view.bench import print_bench

SCHEMA = 1
"""The version of the JSON document; another one when a field changes its meaning or goes away."""
MOST_CONCURRENCY = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="an id or its unique beginning; the only run that is on")
    parser.add_argument("--url", help="any OpenAI-compatible server instead, such as http://127.0.0.1:8000")
    parser.add_argument("--api-key-env", metavar="NAME", help="the environment variable with the key of that server")
    parser.add_argument(
        "--concurrency",
        metavar="N[,N...]",
        help="requests at once, one measurement for each number (default: the workload)",
    )
    parser.add_argument("--input-tokens", type=int, metavar="N", help="tokens of each prompt (default: the workload)")
    parser.add_argument("--output-tokens", type=int, metavar="N", help="tokens of each answer (default: the workload)")
    parser.add_argument(
        "--requests", type=int, metavar="N", help=f"requests in all (default: {ROUNDS} for each at once)"
    )
    parser.add_argument(
        "--client",
        choices=("auto", "vllm", "nexus"),
        default="auto",
        help="who sends them: `vllm bench serve` of the engine, or nexus_orch where there is none (auto)",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    _check_numbers(args)
    target, workload, run_id = _choose(args)
    loads, notes = _make_loads(args, target, workload)
    taken = []
    for load in loads:
        _say(f"{run_id or target.server.url}: {load.concurrency} at once, {load.requests} requests")
        try:
            measured = take_measurement(target, load, client=args.client, say=_say)
        except BenchUnavailable as reason:
            raise ConfigError(Problem(str(reason), "--client", args.client, "command line", "--client nexus")) from None
        taken.append(replace(measured, notes=(*notes, *measured.notes)))
    _print(args, target, run_id, taken)
    if all(measured.figures.failed == measured.figures.requests for measured in taken):
        raise LaunchError(Problem(f"no request was answered: {taken[0].figures.error}"))
    return ExitCode.GOOD


def _check_numbers(args: argparse.Namespace) -> None:
    """Raises ConfigError with every number that makes no load."""
    given = {name: getattr(args, name.replace("-", "_")) for name in ("input-tokens", "output-tokens", "requests")}
    bad = [(f"--{name}", value) for name, value in given.items() if value is not None and value < 1]
    problems = [Problem("must be at least 1", name, value, "command line") for name, value in bad]
    if args.url is None and args.api_key_env is not None:
        problems.append(Problem("belongs to --url", "--api-key-env", args.api_key_env, "command line", "leave it out"))
    if args.url is not None and args.run is not None:
        problems.append(Problem("a run and --url contradict each other", "--url", args.url, "command line"))
    if problems:
        raise ConfigError(*problems)


def _choose(args: argparse.Namespace) -> tuple[BenchTarget, WorkloadSpec, str]:
    """Whom to measure, for which workload, and the run's id ("" for an address)."""
    if args.url is None:
        record = _choose_run(args.run)
        return *target_of_run(record), record.id
    name = args.api_key_env
    if name is not None and name not in os.environ:
        raise ConfigError(
            Problem("this variable is not set", "--api-key-env", name, "command line", f"export {name}=KEY")
        )
    return target_of_url(args.url, None if name is None else os.environ[name]), WorkloadSpec(), ""


def _choose_run(text: str | None) -> RunRecord:
    """The run that is named, or the only one that is on."""
    if text is not None:
        return read_known_run(find_run(paths.runs_dir(), text))
    running = [record for record in read_open_runs(read_ended()) if not record.is_over]
    if len(running) == 1:
        return running[0]
    if not running:
        raise ConfigError(Problem("nothing runs", remedy="start a server with nexus-run, or name one with --url"))
    raise ConfigError(Problem("which run?", remedy=f"name one of {', '.join(record.id for record in running)}"))


def _make_loads(
    args: argparse.Namespace, target: BenchTarget, workload: WorkloadSpec
) -> tuple[list[Load], tuple[str, ...]]:
    """The loads, and what was changed in those that nobody asked for. Raises ConfigError for one that cannot be."""
    inputs, outputs = args.input_tokens or workload.input_tokens, args.output_tokens or workload.output_tokens
    longest = target.max_model_len
    notes: tuple[str, ...] = ()
    if longest is not None and inputs + outputs > longest:
        if args.input_tokens or args.output_tokens:
            message = f"{inputs:,} tokens in and {outputs:,} out are more than the context of {longest:,} tokens"
            raise ConfigError(Problem(message, "--input-tokens", inputs, "command line", "ask for less"))
        inputs, outputs = longest - longest // 3, longest // 3
        notes = (f"prompts and answers are shorter than the workload's: the context holds {longest:,} tokens",)
    counts = _read_counts(args.concurrency) if args.concurrency else [workload.concurrency]
    return [make_load(count, inputs, outputs, args.requests) for count in counts], notes


def _read_counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if all(word.isdecimal() and 1 <= int(word) <= MOST_CONCURRENCY for word in words):
        return list(dict.fromkeys(map(int, words)))
    message = f"whole numbers from 1 to {MOST_CONCURRENCY:,} with commas between"
    raise ConfigError(Problem(message, "--concurrency", text, "command line", "--concurrency 1,4,16"))


def _print(args: argparse.Namespace, target: BenchTarget, run_id: str, taken: list[BenchResult]) -> None:
    if args.format == "table":
        print_bench(taken, sys.stdout)
        return
    document = {
        "schema": SCHEMA,
        "nexus_version": __version__,
        "run": run_id or None,
        "url": target.server.url,
        "engine": None if target.engine is None else f"vLLM {target.engine.version} ({target.engine.device})",
        "measurements": [asdict(measured) for measured in taken],
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
