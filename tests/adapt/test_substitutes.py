"""Options of one release given to another: what says the same there, and which releases have the option."""

from __future__ import annotations

import pytest

from nexus_orch.adapt.substitutes import SUBSTITUTES
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.releases.known import known_releases
from tests.plugins.plans import plan_of, render

TOLD = [
    ("0.33.0", "--disable-log-requests", "only with --enable-log-requests", "0.16.0 and earlier"),
    ("0.9.2", "--enable-log-requests", "unless --disable-log-requests", "0.10.2 and later"),
    ("0.33.0", "--cuda-graph-sizes", "use --cudagraph-capture-sizes", "0.9.2 to 0.12.0"),
    ("0.9.2", "--cudagraph-capture-sizes", "use --cuda-graph-sizes", "0.11.2 and later"),
    ("0.7.3", "--cudagraph-capture-sizes", "cudagraph_capture_sizes", "0.11.2 and later"),
    ("0.5.5", "--cudagraph-capture-sizes", "use --max-seq-len-to-capture", "0.11.2 and later"),
    ("0.10.2", "--max-cudagraph-capture-size", "--cuda-graph-sizes with this one size", "0.11.2 and later"),
    ("0.11.2", "--max-seq-len-to-capture", "--max-cudagraph-capture-size", "0.10.2 and earlier"),
    ("0.33.0", "--task", "use --runner", "0.6.6.post1 to 0.12.0"),
    ("0.9.2", "--runner", "use --task", "0.10.2 and later"),
    ("0.10.2", "--device", "the build of vLLM decides", "0.9.2 and earlier"),
    ("0.10.2", "--attention-backend", "VLLM_ATTENTION_BACKEND", "0.14.1 and later"),
    ("0.32.0", "--swap-space", "use memory.kv_offload_gib", "0.16.0 and earlier"),
    ("0.7.3", "--kv-offloading-size", "memory.swap_gib", "0.11.2 and later"),
    ("0.28.0", "--calculate-kv-scales", "from the checkpoint", "0.7.3 to 0.27.1"),
    ("0.12.0", "--rope-scaling", "--hf-overrides", "0.10.2 and earlier"),
    ("0.12.0", "--guided-decoding-backend", "--structured-outputs-config.backend", "0.11.2 and earlier"),
    ("0.10.2", "--speculative-model", "--speculative-config", "0.7.3 and earlier"),
    ("0.11.2", "-cc", "use --compilation-config", "0.12.0 and later"),
]


@pytest.mark.parametrize(("version", "option", "substitute", "releases"), TOLD)
def test_an_option_of_another_release(version: str, option: str, substitute: str, releases: str) -> None:
    (problem,) = render(plan_of({}, extra_args=[option, "1"]), version).problems
    assert problem.message == f"vLLM {version} has no {option}"
    assert substitute in (problem.remedy or "")
    assert f"{releases} of vLLM have it" in (problem.remedy or "")


LEVELS = [
    ("0.33.0", ["-O3"], None),
    ("0.33.0", ["-O", "0"], None),
    ("0.33.0", ["-O=2"], None),
    ("0.33.0", ["-cc.mode=3"], None),
    ("0.33.0", ["-cc", '{"mode": 3}'], None),
    ("0.12.0", ["-O4"], "takes a level from 0 to 3"),
    ("0.12.0", ['-O{"level": 3}'], "takes a level from 0 to 3"),
    ("0.12.0", ["-O", '{"level": 3}'], "takes a level from 0 to 3"),
    ("0.12.0", ["-O.level=3"], "takes a level from 0 to 3"),
    ("0.11.2", ["-O3"], None),
    ("0.11.2", ["-O", '{"level": 3}'], None),
    ("0.11.2", ["-O.level=3"], None),
    ("0.11.2", ["-Ofast"], "takes a level from 0 to 3 or a configuration"),
    ("0.5.5", ["-O3"], "has no -O"),
]


@pytest.mark.parametrize(("version", "extra_args", "mistake"), LEVELS)
def test_levels_and_configurations_of_compilation(version: str, extra_args: list[str], mistake: str | None) -> None:
    problems = render(plan_of({}, extra_args=extra_args), version).problems
    if mistake is None:
        assert problems == ()
    else:
        (problem,) = problems
        assert mistake in problem.message
        assert problem.remedy


@pytest.mark.parametrize(
    ("version", "env", "problems"),
    [("0.7.3", {}, 0), ("0.9.2", {}, 1), ("0.16.0", {}, 1), ("0.9.2", {"VLLM_USE_V1": "0"}, 0)],
)
def test_a_swap_space_that_does_nothing_is_refused_as_extra_argument_too(
    version: str, env: dict[str, str], problems: int
) -> None:
    found = render(plan_of({}, extra_args=["--swap-space", "4"], env=env), version).problems
    assert [problem.message for problem in found] == ["the swap space does nothing since the V1 engine"] * problems


def test_every_substitute_is_about_options_that_some_release_has() -> None:
    known = {
        name
        for release in known_releases()
        for flag in catalogue_flags(release).values()
        for name in (flag.name, *flag.aliases)
    }
    needed = {substitute.needs for known_as in SUBSTITUTES.values() for substitute in known_as if substitute.needs}
    assert SUBSTITUTES.keys() | needed <= known
