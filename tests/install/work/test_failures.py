"""The lines are pip's own, shortened (pip 23.2 and 26.0)."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from nexus_orch.install.work.failures import (
    SHOWN_LINES,
    InstallError,
    judge_failure,
    judge_not_offered,
    parse_offered_versions,
    tell_os_errors,
)

UNREACHABLE = [
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('Failed to establish a new "
    "connection: [Errno -3] Temporary failure in name resolution')': /simple/torch/",
    "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)",
    "ERROR: No matching distribution found for torch==2.13.0",
]
UNKNOWN_RELEASE = [
    "ERROR: Could not find a version that satisfies the requirement vllm==9.9 (from versions: 0.31.0, 0.32.0)",
    "ERROR: No matching distribution found for vllm==9.9",
]


@pytest.mark.parametrize(
    ("lines", "reason", "remedy"),
    [
        (UNREACHABLE, "index cannot be reached", "PIP_PROXY"),
        (UNKNOWN_RELEASE, "no index offers it", "--index URL"),
        (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "disk", "HOME"),
        (["ERROR: Could not install packages: [Errno 13] Permission denied: '/x'"], "may not be written", "NEXUS_HOME"),
        (
            ["connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]"],
            "certificate",
            "PIP_CERT",
        ),
        (["pip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed out."], "cannot be reached", "again"),
        (["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."], "damaged", "NO_CACHE"),
        (["ERROR: ResolutionImpossible: for help visit"], "contradict", "--version"),
        (["Error: Command '-m ensurepip' failed", "No module named ensurepip"], "cannot make env", "python3-venv"),
        (["ERROR: Failed building wheel for numba"], "could not be built", "--python"),
        (["something else"], "last lines are below", "see the log"),
        ([], "last lines are below", "see the log"),
    ],
)
def test_the_reason_and_the_remedy(lines: list[str], reason: str, remedy: str) -> None:
    problem = judge_failure("install torch", 1, lines, "/x/install.log")
    assert problem.message.startswith("could not install torch: ")
    assert reason in problem.message
    assert "exit status 1" in problem.message
    assert remedy.replace("again", "goes on where it stopped") in str(problem.remedy)
    assert problem.value == "/x/install.log"


def test_a_full_disk_is_not_taken_for_the_network_error_that_it_causes() -> None:
    lines = [*UNREACHABLE, "OSError: [Errno 28] No space left on device"]
    assert "disk is full" in judge_failure("install torch", 1, lines, "log").message


def test_a_killed_tool_is_told_as_such() -> None:
    problem = judge_failure("convert the model", -9, ["Loading weights"], "log")
    assert "memory runs out (signal 9)" in problem.message


def test_only_the_last_telling_lines_are_shown() -> None:
    lines = [f"line {number}" for number in range(50)] + [
        "x" * 1000,
        "WARNING: Location 'y' is ignored",
        "[notice] pip",
    ]
    shown = judge_failure("do it", 1, lines, "log").message.split("\n    | ")[1:]
    assert len(shown) == SHOWN_LINES
    assert shown[0] == "line 43"
    assert shown[-1] == "x" * 240 + "..."


def test_what_is_offered_instead() -> None:
    assert parse_offered_versions("vllm==9.9", UNKNOWN_RELEASE) == ("0.31.0", "0.32.0")
    assert parse_offered_versions("vllm==9", UNKNOWN_RELEASE) == ()
    assert parse_offered_versions("torch==2.13.0", UNREACHABLE) == ()


def test_an_unreachable_index_is_not_one_that_lacks_it() -> None:
    assert judge_not_offered(1, UNKNOWN_RELEASE)
    assert not judge_not_offered(1, UNREACHABLE)
    assert not judge_not_offered(0, UNKNOWN_RELEASE)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), r"No space left(.|\n)*/x/y(.|\n)*free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), r"Permission denied(.|\n)*who owns the folder"),
        (OSError("odd"), r"odd(.|\n)*/home(.|\n)*NEXUS_HOME=DIR"),
    ],
)
def test_errors_of_the_operating_system_become_messages(error: OSError, told: str) -> None:
    with (
        pytest.raises(InstallError, match=r"could not install it: " + told),
        tell_os_errors("install it", Path("/home")),
    ):
        raise error
