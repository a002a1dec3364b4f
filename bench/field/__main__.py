"""Print the scores of all subjects, or of those that are named: `python -m bench.field logs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench.field import imports, launches, logs

SUBJECTS: dict[str, Callable[[], int]] = {"logs": logs.main, "launches": launches.main, "imports": imports.main}
"""Each prints its table and gives the number of cases that are not fully right."""


def main() -> int:
    """The number of cases, over all subjects, that are not fully right; at most 100, as an exit code must be small."""
    parser = argparse.ArgumentParser(prog="python -m bench.field", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all by default")
    wanted = parser.parse_args().subjects or list(SUBJECTS)
    unknown = [name for name in wanted if name not in SUBJECTS]
    if unknown:
        parser.error(f"no subject {unknown[0]!r}: choose from {', '.join(SUBJECTS)}")
    return min(sum(SUBJECTS[name]() for name in wanted), 100)


if __name__ == "__main__":
    sys.exit(main())
