"""Arguments that several commands share: overrides as Hydra writes them, and the user's own project."""

from __future__ import annotations

import argparse
from pathlib import Path

from nexus_orch import shipped


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """`OVERRIDES` and `--project`."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="GROUP=NAME or KEY=VALUE, as for nexus-run")
    parser.add_argument("--project", metavar="DIR", help="a folder with conf/ and plugins/ of your own (NEXUS_PROJECT)")


def project_of(args: argparse.Namespace) -> Path | None:
    """The folder of `--project`, not checked yet; None leaves it to NEXUS_PROJECT."""
    return None if args.project is None else Path(args.project)


def conf_dirs(project: Path | None) -> list[Path]:
    """The folders of profiles, the user's own first."""
    return [shipped.conf_dir()] if project is None else [project / "conf", shipped.conf_dir()]
