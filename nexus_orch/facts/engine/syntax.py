"""Whether an engine's source file is broken, or only written for a newer Python than ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nexus_orch.errors import ConfigError, Problem

_ASK_SECONDS = 30.0
_ASK = "import sys; compile(open(sys.argv[1], 'rb').read(), sys.argv[1], 'exec')"


def check_syntax(python: Path, error: SyntaxError) -> None:
    """Raises ConfigError when the engine's own interpreter cannot read the source file of `error`: vLLM will not start.

    An interpreter that does not answer at all is for others to tell.
    """
    file = str(error.filename)
    try:
        answer = subprocess.run(
            [str(python), "-I", "-c", _ASK, file], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    if answer.returncode == 0:
        return
    last = (answer.stderr.strip().splitlines() or ["it cannot be read"])[-1]
    remedy = "install this vLLM again: pip install --force-reinstall --no-deps vllm==VERSION"
    message = f"a source file of this vLLM is broken: {last}, in line {error.lineno}"
    raise ConfigError(Problem(message, "engine.python", file, remedy=remedy))
