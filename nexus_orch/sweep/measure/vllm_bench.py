"""vLLM's own benchmark of a server, `vllm bench serve`, run in the environment of the engine that is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nexus_orch.facts.engine.bench import read_bench_options
from nexus_orch.sweep.measure.types import BenchTarget, Figures, Load, MeasureCancelled

START_SECONDS = 300.0
"""How long it may take to import vLLM: 10 s on a quiet machine, over a minute on one whose disk is busy."""
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.2
_RESULT = "result.json"
_NEEDED = frozenset({"--base-url", "--model", "--dataset-name", "--random-input-len", "--random-output-len"})
_ASSUMED = _NEEDED | {
    "--backend", "--endpoint", "--tokenizer", "--num-prompts", "--max-concurrency", "--ignore-eos", "--seed",
    "--temperature", "--percentile-metrics", "--metric-percentiles", "--save-result", "--result-dir",
    "--result-filename", "--disable-tqdm", "--header", "--trust-remote-code",
}  # fmt: skip
"""Options of 0.32.0 that are used, where the engine's sources cannot be read from here."""


class BenchUnavailable(Exception):  # noqa: N818 - says what is the case; our own client measures then
    """`vllm bench serve` cannot measure this server, or did not; the text says why."""


def find_options(target: BenchTarget) -> frozenset[str]:
    """What `vllm bench serve` of the target's engine takes. Raises BenchUnavailable where it cannot be used."""
    if target.engine is None or not target.launcher:
        raise BenchUnavailable("the server's engine is not known")
    if target.tokenizer is None:
        raise BenchUnavailable("the model's tokenizer is not known")
    if target.engine.root is None:
        return _ASSUMED
    options = read_bench_options(Path(target.engine.root))
    if options is None or not options >= _NEEDED:
        raise BenchUnavailable(f"vLLM {target.engine.version} has no `vllm bench serve`")
    return options


def make_argv(target: BenchTarget, options: frozenset[str], load: Load, seed: int, folder: Path) -> list[str]:
    """The command line in the words of this release."""
    wanted: dict[str, str | None] = {
        # --endpoint-type is the name of --backend in the first releases that have the command
        "--backend" if "--backend" in options else "--endpoint-type": "openai",
        "--base-url": target.server.url,
        "--endpoint": "/v1/completions",
        "--model": target.server.model or target.tokenizer,
        "--tokenizer": target.tokenizer,
        "--dataset-name": "random",
        "--random-input-len": str(load.input_tokens),
        "--random-output-len": str(load.output_tokens),
        "--num-prompts": str(load.requests),
        "--max-concurrency": str(load.concurrency),
        "--ignore-eos": None,
        "--temperature": "0",
        "--seed": str(seed),
        "--percentile-metrics": "ttft,tpot,itl",
        "--metric-percentiles": "95",
        "--save-result": None,
        "--result-dir": str(folder),
        "--result-filename": _RESULT,
        "--disable-tqdm": None,
    }
    words = [(name, value) for name, value in wanted.items() if name in options]
    return [*target.launcher, "bench", "serve", *(word for pair in words for word in pair if word is not None)]


def measure_by_vllm(target: BenchTarget, load: Load, seed: int, patience_seconds: float) -> Figures:
    """Run it to its end and read its result. Raises BenchUnavailable where it has none, and MeasureCancelled.

    `patience_seconds` bound the requests; the program's own start is not counted among them.
    """
    options = find_options(target)
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as name:
        folder = Path(name)
        said = _run(target, make_argv(target, options, load, seed, folder), folder, patience_seconds + START_SECONDS)
        try:
            result: dict[str, Any] = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise BenchUnavailable(f"`vllm bench serve` left no result: {_last_line(said)}") from None
    version = "" if target.engine is None else f" {target.engine.version}"
    return read_figures(result, load, f"vllm bench serve{version}")


def read_figures(result: Mapping[str, Any], load: Load, client: str) -> Figures:
    """Its JSON result (benchmarks/serve.py: benchmark) as figures. Raises BenchUnavailable for one without speeds."""
    speed, completed = result.get("output_throughput"), result.get("completed")
    if not isinstance(speed, int | float) or not isinstance(completed, int):
        raise BenchUnavailable("the result of `vllm bench serve` tells no speed")
    errors = [text for text in result.get("errors") or () if text]
    return Figures(
        client=client,
        seconds=round(float(result.get("duration") or 0.0), 3),
        tokens_per_second=round(float(speed), 3),
        requests=load.requests,
        failed=load.requests - completed,
        first_token_seconds=_seconds(result, "median_ttft_ms", completed),
        first_token_p95_seconds=_seconds(result, "p95_ttft_ms", completed),
        inter_token_seconds=_seconds(result, "median_itl_ms", completed),
        inter_token_p95_seconds=_seconds(result, "p95_itl_ms", completed),
        error=errors[0].strip().splitlines()[-1] if errors else "",
    )


def _seconds(result: Mapping[str, Any], name: str, completed: int) -> float | None:
    """A time of the result; the zeros that stand there when no request came to an end are none."""
    value = result.get(name)
    return round(float(value) / 1000, 6) if isinstance(value, int | float) and completed else None


def _run(target: BenchTarget, argv: Sequence[str], folder: Path, patience_seconds: float) -> str:
    """Run it in a process group of its own, and give what it printed."""
    env = {**os.environ, **target.env}
    if target.server.api_key is not None:
        env["OPENAI_API_KEY"] = target.server.api_key  # benchmarks/lib/endpoint_request_func.py reads it there
    output = folder / "output"
    with output.open("wb") as sink:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, cwd=folder, start_new_session=True
            )
        except OSError as error:
            raise BenchUnavailable(f"`vllm bench serve` cannot be started: {error.strerror}") from None
        try:
            _wait(process, target, patience_seconds)
        finally:
            _end(process)
    return output.read_text(encoding="utf-8", errors="replace")


def _wait(process: subprocess.Popen[bytes], target: BenchTarget, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while process.poll() is None:
        if target.cancel.wait(_POLL_SECONDS):
            raise MeasureCancelled
        if time.monotonic() > deadline:
            raise BenchUnavailable(f"`vllm bench serve` did not end within {patience_seconds:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it stays, whatever ended the wait."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def _last_line(text: str) -> str:
    """The last line that says something of an error, or of anything."""
    lines = list(_telling(text))
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or ["it printed nothing"])[-1][:300]


def _telling(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip() and "nanobind" not in line)
