"""The headers of a Slurm script: machines and cards, and the variables that Slurm makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HEADER = re.compile(r"^#SBATCH\s+(-\w|--[\w-]+)(?:[=\s]+(\S+))?", re.MULTILINE)
_CARDS = re.compile(r"(?:gpu:)?(?:[\w.-]+:)?(\d+)")


@dataclass(frozen=True)
class Job:
    """What a script asks Slurm for; nothing when it is no such script."""

    nodes: int = 1
    cards: int | None = None
    """On each machine."""
    variables: dict[str, str] = field(default_factory=dict)


def read_job(text: str) -> Job:
    """The job that a script describes in its comments."""
    nodes, cards = 1, None
    headers = _HEADER.findall(text)
    for name, value in headers:
        if name in ("-N", "--nodes") and value.partition("-")[0].isdecimal():
            nodes = max(1, int(value.partition("-")[0][:6]))
        elif name in ("--gres", "--gpus-per-node", "--gpus", "-G"):
            match = _CARDS.fullmatch(value)
            cards = cards if match is None else int(match[1][:6])
            if cards is not None and name in ("--gpus", "-G"):
                cards = max(1, cards // nodes)
    if not headers:
        return Job()
    variables = dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), str(nodes))
    variables |= dict.fromkeys(("SLURM_NODEID", "SLURM_PROCID"), "0")
    if cards is not None:
        variables |= dict.fromkeys(("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"), str(cards))
        variables["SLURM_GPUS"] = str(cards * nodes)
    return Job(nodes, cards, variables)
