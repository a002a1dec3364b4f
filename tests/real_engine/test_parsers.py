"""Every shipped model on several machines: the command line means to the real parser what the plan says.

On each release of vLLM that installs without a GPU. Its parser knows the options for cards as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.adapt.arguments import judge_count, read_arguments
from nexus_orch.adapt.difference import split_options
from nexus_orch.facts.engine.installed import read_engine
from nexus_orch.install.engines.recipe import known_cpu_versions
from nexus_orch.session.prepare import Preparation
from nexus_orch.types import GIB, EngineFacts
from tests.real_engine.conftest import Home
from tests.real_engine.parsers import Parsed, find_python, parse_command_lines
from tools.shipped_runs import ShippedRun, make_run, model_names

pytestmark = [pytest.mark.engine_matrix, pytest.mark.timeout(1200)]

MACHINES = (("rtx4090", "auto"), ("rtx4090", "hybrid"), ("l4x4", "auto"), ("h100x8", "auto"), ("cpu", "auto"))
"""Hardware and memory profiles: one card, weights in RAM, several cards of two kinds, and no card."""


@pytest.fixture(scope="module")
def runs() -> list[ShippedRun]:
    return [make_run(model, hardware, memory) for model in model_names() for hardware, memory in MACHINES]


@pytest.fixture(scope="module", params=known_cpu_versions())
def python(request: pytest.FixtureRequest, real_home: Home) -> Path:
    return find_python(str(request.param), real_home.engines, real_home.cache)


def test_the_real_parser_reads_what_the_plan_says(python: Path, runs: list[ShippedRun]) -> None:
    engine = read_engine(python)
    prepared = list(_prepare(runs, engine))
    assert len(prepared) > len(runs) * 0.8
    parsed = parse_command_lines(python, [preparation.rendering.argv for _, preparation in prepared])
    for (run, preparation), answer in zip(prepared, parsed.answers, strict=True):
        assert "error" not in answer, (run.name, answer)
        _assert_same(run.name, preparation, parsed, answer["values"])


def test_a_wrong_command_line_is_noticed(python: Path) -> None:
    lines = [["serve", "m", "--no-such-option"], ["serve", "m", "--max-model-len", "long"], ["serve", "m"]]
    wrong, worse, right = parse_command_lines(python, lines).answers
    assert "unrecognized arguments: --no-such-option" in wrong["error"]
    assert "--max-model-len" in worse["error"]
    assert right["values"] == {"model_tag": "m"}


ODD_SPELLINGS = (
    ("--generation-conf", "vllm"),
    ("--max_model_l=32k",),
    ("-tp=2", "--no_async_sched"),
    ("-qawq",),
    ("-cc.pass_config.fuse_norm_quant=true", "-cc.mode", "3"),
    ("--compilation-conf.custom_ops+", "none,+rms_norm"),
    ("-O3",),
    ("-O=1",),
    ("-O", "0"),
    ("--seed", "-7", "--lora-modules", "a=b", "c=d"),
    ("--max-num", "4"),
    ("--seed", "-5k"),
    ("--enforce-eager=true",),
    ("--seed",),
)


def test_every_spelling_means_to_the_real_parser_what_we_read(python: Path) -> None:
    """Spelt out by our reader it means the same; what our reader refuses, the parser refuses."""
    engine = read_engine(python)
    read = [read_arguments(words, engine).options for words in ODD_SPELLINGS]
    spelt_out = [[word for option in options for word in option.words] for options in read]
    lines = [["serve", "m", *words] for words in (*ODD_SPELLINGS, *spelt_out)]
    answers = parse_command_lines(python, lines).answers
    for words, options, odd, plain in zip(ODD_SPELLINGS, read, answers[: len(read)], answers[len(read) :], strict=True):
        is_good = all(option.flag is not None and judge_count(option, engine) is None for option in options)
        assert ("error" not in odd) is is_good, (words, odd)
        assert not is_good or odd == plain, words


def _prepare(runs: list[ShippedRun], engine: EngineFacts) -> Iterator[tuple[ShippedRun, Preparation]]:
    """Those that the release can say; whether they fit the machine makes no difference to a parser."""
    on_cards = replace(engine, device="cuda")
    for run in runs:
        preparation = run.prepare(on_cards if run.machine.gpus else engine)
        if not preparation.rendering.problems:
            yield run, preparation


def _assert_same(name: str, preparation: Preparation, parsed: Parsed, values: Mapping[str, Any]) -> None:
    """Every setting that is said has its value, and nothing else differs from the defaults."""
    head, options = split_options(preparation.rendering.argv)
    expected: dict[str, Any] = {"model_tag": head[1]}
    for option in options:
        key = preparation.rendering.said[option[0]]
        expected[parsed.names[option[0]]] = _as_parsed(key, preparation.plan.settings[key])
    for value_name, value in expected.items():
        found = values.get(value_name, parsed.defaults[value_name])
        same = pytest.approx(value) if isinstance(value, float) else value
        assert found == same, (name, value_name)
    assert values.keys() <= expected.keys(), name


def _as_parsed(key: str, value: Any) -> Any:
    """The value of a setting in the form in which vLLM keeps it."""
    if key == "model.served_name":
        return [value]
    if isinstance(value, tuple):
        return list(value)
    return round(value * GIB) if key == "memory.kv_cache.size_gib" else value
