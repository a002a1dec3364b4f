"""`nexus import`: an existing vLLM command, or a file with one in it, to a profile that `nexus plan` takes."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from pathlib import Path

from nexus_orch.commands.import_check import check_profile, find_differences
from nexus_orch.commands.import_reading import Question, read_settings
from nexus_orch.commands.import_source import Source, parse_overrides, read_source, split_words
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.exchange.foreign.sources import WHAT_IS_READ
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.profile import render_profile
from nexus_orch.exchange.profiles.report import render_report
from nexus_orch.files import write_result

_USAGE = (
    "nexus import [OPTIONS] FILE|- [GROUP=NAME ...] [KEY=VALUE ...]\n"
    "       nexus import [OPTIONS] [GROUP=NAME ...] [KEY=VALUE ...] -- vllm serve MODEL ..."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = _USAGE
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="FILE", help=f"{WHAT_IS_READ}; - is standard input")
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--release", metavar="V", help="the vLLM that the command is for (as engine.version=V)")
    parser.add_argument("--project", metavar="DIR", help="write DIR/conf/profile/NAME.yaml")
    parser.add_argument("--name", metavar="NAME", help="of the profile; else made of the model's name")
    parser.add_argument("--out", metavar="FILE", help="write this file (without --project and --out: standard output)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--pick", type=int, metavar="N", help="the N-th start of a file that has several")
    skip = "leave out options that the release does not have, instead of stopping"
    parser.add_argument("--skip-unknown", action="store_true", help=skip)


def run(args: argparse.Namespace) -> int:
    """Write the profile, and tell what became of each part of the command on standard error. 2 when it cannot be."""
    own, command = split_words(args.words)
    parser = argparse.ArgumentParser(prog="nexus import", usage=_USAGE, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    _add_options(parser)
    parser.set_defaults(**{name: value for name, value in vars(args).items() if name != "words"})
    given = parser.parse_intermixed_args(own)
    files, overrides = parse_overrides(given.words)
    source = read_source(files, command, overrides.variables)
    project = None if given.project is None else Path(given.project).expanduser()
    question = Question(overrides, given.release, project, given.pick, skips_unknown=given.skip_unknown)
    imported = read_settings(source, question)
    _write(source, imported, given, project)
    return ExitCode.GOOD


def _write(source: Source, imported: Imported, args: argparse.Namespace, project: Path | None) -> None:
    """Check the profile, then write it. Nothing is written when it is wrong."""
    name = args.name or _name(imported)
    target = _target(name, args, project)
    if target is not None and target.exists() and not args.force:
        remedy = "--force replaces it, or choose another name"
        raise ConfigError(Problem(f"{target} is there already", remedy=remedy))
    text = render_profile(imported, [f"Imported by `nexus import` from {source.name}."])
    spec = check_profile(text, name, project, shown=str(target or "the profile"))
    imported.note_all(find_differences(spec, imported, project))
    if target is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_result(target, text)
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    sys.stderr.write(render_report(f"imported from {source.name}:", imported.notes, width))
    if target is None:
        sys.stderr.write("nothing was written; to keep the profile: nexus import --project DIR ...\n")
    elif project is None:
        sys.stderr.write(f"wrote {target}\n")
    else:
        again = shlex.join(["nexus", "plan", "--project", str(args.project), f"profile={name}"])
        sys.stderr.write(f"wrote {target}; try it: {again}\n")


def _name(imported: Imported) -> str:
    """A name made of the model's: Qwen/Qwen2.5-7B-Instruct gives qwen2_5_7b_instruct."""
    model = str(imported.settings.get("model.path") or imported.settings.get("model.served_name") or "imported")
    last = model.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_") or "imported"
    return name if name[0].isalpha() else f"m_{name}"


def _target(name: str, args: argparse.Namespace, project: Path | None) -> Path | None:
    """The file to write, None for standard output."""
    if args.out is not None and project is not None:
        raise ConfigError(Problem("--out and --project are two places for one profile", remedy="leave one of them out"))
    if re.fullmatch(r"\w+", name) is None:
        remedy = "letters, digits and underscores"
        raise ConfigError(Problem("this is no name of a profile", "--name", name, "command line", remedy))
    if project is not None:
        return project / "conf" / "profile" / f"{name}.yaml"
    if args.name is not None and args.out is None:
        remedy = "--project DIR --name NAME, or --out FILE"
        raise ConfigError(Problem("a name, but no place to write the profile to", "--name", name, None, remedy))
    return None if args.out is None else Path(args.out).expanduser()
