"""The command line itself: help, unknown commands, exit codes, output that nobody reads any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nexus_orch import __version__
from nexus_orch.cli import COMMANDS, guard, main
from nexus_orch.errors import (
    ConfigError,
    ExitCode,
    InterruptedByEnvironment,
    LaunchError,
    PlanError,
    Problem,
    render_problems,
)

NEXUS = str(Path(sys.executable).with_name("nexus"))


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.GOOD
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and entry.summary in told for name, entry in COMMANDS.items())


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"run"}))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert f"nexus {name}" in capsys.readouterr().out


def test_an_unknown_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paln"]) == ExitCode.CONFIG
    assert "did you mean nexus plan?" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.GOOD
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError, 2), (PlanError, 3), (LaunchError, 4), (InterruptedByEnvironment, 5)]
)
def test_an_error_is_one_message_and_one_exit_code(
    error: type[ConfigError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error(Problem("first", "a.b", 1, "command line", "do this"), Problem("second"))

    assert guard(fail) == code
    told = capsys.readouterr().err
    assert told == "error: 2 problems\nfirst\n    a.b = 1  (command line)\n    remedy: do this\nsecond\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (False, "false"),
        (("mlp",), "[mlp]"),
        (["experts.w2_weight", "mlp"], "[experts.w2_weight,mlp]"),
        ([20, 12], "[20,12]"),
        ([None, True, "true", "--x", "it's"], r"[null,true,'true','--x','it\'s']"),
        ({"dtype": "fp8", "n": 1}, "{dtype:fp8,n:1}"),
        (7.5, "7.5"),
        ("uva", "uva"),
    ],
)
def test_values_are_spelled_as_they_are_written(value: object, written: str) -> None:
    assert f"a.b = {written}\n" in render_problems((Problem("no", "a.b", value, remedy="x"),))
    parser = OverridesParser.create()
    assert parser.parse_override(f"a.b={written}").value() == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{NEXUS} plan hardware=rtx4090x2 model=qwen32b | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "qwen32b" in done.stdout


def test_options_may_stand_between_the_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", "hardware=rtx4090x2", "--format", "json", "model=qwen32b"])
    assert code in (ExitCode.GOOD, ExitCode.DOES_NOT_FIT)
    assert capsys.readouterr().out.startswith("{")


OUTPUTS = (
    ("plan", "hardware=rtx4090", "model=qwen7b"),
    ("engine", "list"),
    ("run", "--cfg", "job"),
    ("--help",),
)


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_an_output_that_cannot_be_written_is_one_message(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run([NEXUS, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == ExitCode.ENVIRONMENT
    assert done.stderr.splitlines()[0] == "error: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_as_good_as_no_reader(words: tuple[str, ...], closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" "$@" {closed}', NEXUS, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_thousands_of_problems_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ConfigError(*(Problem(f"problem {number}") for number in range(20_000)))

    assert guard(fail) == ExitCode.CONFIG
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["error: 20000 problems", "problem 0"]
    assert told[-1] == "and 19,975 more: mend these first"
    assert len(told) == 27
