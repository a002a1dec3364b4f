"""What an installation can fail of, told with the last lines of the tool that failed and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.errors import ExitCode, NexusError, Problem

SHOWN_LINES = 8
_SHOWN_LENGTH = 240
_QUIET = ("[notice]", "WARNING: Location", "Looking in ")
_AGAIN = "then repeat the command, it goes on where it stopped"


class InstallError(NexusError):
    """An engine or a model could not be set up. What was finished stays, and the same command goes on from there."""

    exit_code = ExitCode.ENVIRONMENT


@dataclass(frozen=True)
class _Sign:
    pattern: re.Pattern[str]
    reason: str
    remedy: str


def _sign(pattern: str, reason: str, remedy: str) -> _Sign:
    return _Sign(re.compile(pattern, re.IGNORECASE), reason, remedy)


_NOT_OFFERED = _sign(
    r"no matching distribution found|could not find a version that satisfies",
    "no index offers it for this Python and this platform",
    "choose another --version or --python, or name the index that has it with --index URL",
)
# The wording of pip 23 to 26 and of the libraries under it. The order matters: the first sign that any line shows wins,
# so that a full disk is not taken for the network error that it causes later.
_SIGNS = (
    _sign(
        r"no space left on device|disk quota exceeded|errno 28",
        "the disk is full",
        "free some space, or move everything with NEXUS_HOME=DIR; " + _AGAIN,
    ),
    _sign(
        r"permission denied|errno 13",
        "a file may not be written",
        "check who owns the folder, or choose another one with NEXUS_HOME=DIR",
    ),
    _sign(
        r"certificate_verify_failed|certificate verify failed",
        "the index's certificate is not trusted",
        "tell pip your certificates: PIP_CERT=FILE",
    ),
    _sign(
        r"name resolution|name or service not known|getaddrinfo failed|nodename nor servname|newconnectionerror"
        r"|failed to establish a new connection|network is unreachable|connection refused|connection reset"
        r"|connection aborted|connection broken|proxyerror|read timed out|timeouterror|max retries exceeded"
        r"|incompleteread|http error 5\d\d|5\d\d server error",
        "the package index cannot be reached",
        "check the network and the proxy (PIP_PROXY, PIP_INDEX_URL); " + _AGAIN,
    ),
    _sign(
        r"do not match the hashes",
        "a downloaded file is damaged",
        "repeat the command with PIP_NO_CACHE_DIR=1",
    ),
    _sign(
        r"resolutionimpossible|conflicting dependencies",
        "the requirements contradict each other",
        "unset constraints (PIP_CONSTRAINT, pip's configuration), or install another --version",
    ),
    _NOT_OFFERED,
    _sign(
        r"no module named (ensurepip|venv)|ensurepip is not available",
        "this Python cannot make environments",
        "install its venv package (python3-venv on Debian and Ubuntu), or use another Python with --python PATH",
    ),
    _sign(
        r"failed building wheel|failed to build|metadata-generation-failed|command '?(gcc|cc|cmake)",
        "a package has no ready build for this Python and platform and could not be built here",
        "use another Python with --python PATH",
    ),
)
_UNKNOWN = _Sign(re.compile(""), "", "see the log; " + _AGAIN)
_KILLED = _Sign(re.compile(""), "it was killed, as the kernel does when memory runs out", _UNKNOWN.remedy)


def judge_failure(what: str, returncode: int, lines: Sequence[str], log: str) -> Problem:
    """The problem behind a child that failed. `what` says what it should do ("install torch"), `lines` is the end of
    its output, `returncode` is negative for a signal, `log` the file with all of its output."""
    sign = _choose_sign(returncode, lines)
    ended = f"exit status {returncode}" if returncode >= 0 else f"signal {-returncode}"
    reason = sign.reason or "its last lines are below"
    shown = "".join(f"\n    | {line}" for line in _choose_lines(lines))
    return Problem(f"could not {what}: {reason} ({ended}){shown}", key="log", value=log, remedy=sign.remedy)


@contextmanager
def tell_os_errors(what: str, folder: Path) -> Iterator[None]:
    """Turn an error of the operating system (no permission, a full disk) into an InstallError. `what` says what should
    be done ("install cpu-0.32.0"), `folder` where."""
    try:
        yield
    except OSError as error:
        sign = _choose_sign(1, [str(error)])
        remedy = "choose another place with NEXUS_HOME=DIR" if sign is _UNKNOWN else sign.remedy
        message = f"could not {what}: {error.strerror or error}"
        raise InstallError(Problem(message, "file", error.filename or folder, remedy=remedy)) from error


def judge_not_offered(returncode: int, lines: Sequence[str]) -> bool:
    """Whether pip failed because no index has what it was asked for. It says so of an unreachable index, too; that is
    another failure."""
    return returncode != 0 and _choose_sign(returncode, lines) is _NOT_OFFERED


def _choose_sign(returncode: int, lines: Sequence[str]) -> _Sign:
    for sign in _SIGNS:
        if any(sign.pattern.search(line) for line in lines):
            return sign
    return _KILLED if returncode in (-9, 137) else _UNKNOWN


def _choose_lines(lines: Sequence[str]) -> list[str]:
    """The last lines that say something: pip's notices about itself and about where it looked do not."""
    told = [line for line in lines if line.strip() and not line.startswith(_QUIET)]
    return [line if len(line) <= _SHOWN_LENGTH else line[:_SHOWN_LENGTH] + "..." for line in told[-SHOWN_LINES:]]


def parse_offered_versions(requirement: str, lines: Sequence[str]) -> tuple[str, ...]:
    """The versions that pip found instead of the one in `requirement` ("vllm==9.9"), oldest first. Empty when pip
    failed of something else, or found none at all: then the index, the Python or the platform is to blame."""
    said = re.compile(rf"that satisfies the requirement {re.escape(requirement)} \(from versions: (.+)\)")
    found = next((match for line in lines if (match := said.search(line))), None)
    return () if found is None or found[1] == "none" else tuple(found[1].split(", "))
