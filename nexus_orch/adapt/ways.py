"""The vocabulary of the settings table: in which way some releases take a setting, or why they do not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from packaging.specifiers import SpecifierSet

from nexus_orch.errors import Problem
from nexus_orch.releases.fact import Fact
from nexus_orch.releases.host_ram import offloads_kv_blocks
from nexus_orch.releases.known import parse_release
from nexus_orch.types import GIB, Cause, Choice, Flag

V1_VARIABLE = "VLLM_USE_V1"
"""Read by 0.6.6 to 0.10: at 0 these start the V0 engine. Gone from the sources of 0.11.2."""

NO_SWAP = "the swap space does nothing since the V1 engine"
INSTEAD_OF_SWAP = f"use memory.kv_offload_gib ({offloads_kv_blocks.span})"


def write_text(value: Any) -> str:
    """The value as it stands; JSON for mappings and lists."""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def write_number(value: Any) -> str:
    """A number in its shortest form: 4 for 4.0."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def write_bytes_of_gib(value: Any) -> str:
    """GiB as a whole number of bytes."""
    return str(round(float(value) * GIB))


def write_whole_gib(value: Any) -> str:
    """GiB as an integer, for variables that vLLM reads with `int`. Raises UnwritableError for other values."""
    if not float(value).is_integer() or value < 1:
        raise UnwritableError("takes whole GiB from 1 up", math.ceil(float(value)))
    return str(int(value))


def write_list(value: Any) -> str:
    """A list with commas and without spaces, as vLLM and CUDA read theirs: "20,12"."""
    return ",".join(str(item) for item in value)


def write_words(value: Any) -> str:
    """Several words of an option that takes as many as there are; an import takes all of them."""
    return " ".join(map(str, value))


def write_multiple_of(step: int) -> Callable[[Any], str]:
    """A writer of whole multiples of `step`, such as a block size that attention kernels take. The writer raises
    UnwritableError for other values."""

    def write(value: Any) -> str:
        if int(value) % step:
            raise UnwritableError(f"needs a multiple of {step}", max(step, step * round(int(value) / step)))
        return str(int(value))

    return write


def write_switch(value: Any) -> str:
    """True and false as 1 and 0, for variables that vLLM reads with `int`."""
    return str(int(bool(value)))


def write_kv_tiers(directory: Any) -> str:
    """A folder as a tier below the KV blocks in host RAM, whose size is --kv-offloading-size (v1/kv_offload/tiering and
    config/vllm.py: _post_init_kv_transfer_config, from 0.22.1)."""
    extra = {"spec_name": "TieringOffloadingSpec", "secondary_tiers": [{"type": "fs", "root_dir": str(directory)}]}
    connector = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": extra}
    return json.dumps(connector)


class UnwritableError(ValueError):
    """The value has no form that the release takes; `nearest` is one that has."""

    def __init__(self, reason: str, nearest: Any) -> None:
        super().__init__(reason)
        self.nearest = nearest


_parse_releases = cache(SpecifierSet)


@dataclass(frozen=True)
class Way:
    """How the releases in `releases`, a specifier or a fact, take a setting (on `device`, when one is named).

    A way with `refused` says why they do not; `instead` is the remedy. Values in `silent` need no word: they are what
    vLLM does by itself. `unless` names another setting and its value that makes this one unneeded. `overridden_by` is
    a variable that beats the flag. `values` keeps a way to those values, `given` to runs whose `engine.env` has that
    variable at that value. `within` is the key of the option's JSON that the setting is, "" for a mapping of further
    keys: settings of one option are said together. `also` names options that say the same where an import finds them.
    """

    flag: str | None = None
    env: str | None = None
    write: Callable[[Any], str] = write_text
    releases: Fact | str = ""
    device: Literal["cuda", "cpu"] | None = None
    silent: tuple[Any, ...] = ()
    refused: str | None = None
    instead: str | None = None
    cause: Cause | None = None
    overridden_by: str | None = None
    unless: tuple[str, Any] = ("", None)
    values: tuple[Any, ...] = ()
    given: tuple[str, str] | None = None
    within: str | None = None
    also: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str | None, ...]:
        """The options whose value is the setting's, not one that holds it among others."""
        return self.also if self.within is not None else (self.flag, *self.also)

    def applies(self, version: str, device: str, value: Any, env: Mapping[str, str]) -> bool:
        """True when this is how that version on that device takes this value under the user's `engine.env`."""
        if self.values and value not in self.values:
            return False
        if self.given is not None and env.get(self.given[0]) != self.given[1]:
            return False
        return self.holds_for(version, device)

    def holds_for(self, version: str, device: str) -> bool:
        """Whether it is a way of that version on that device at all."""
        if self.device is not None and self.device != device:
            return False
        if isinstance(self.releases, Fact):
            return self.releases(version)
        release = parse_release(version)
        return not self.releases or _parse_releases(self.releases).contains(release, prereleases=True)


def write_for(flag: Flag, way: Way, value: Any) -> str:
    """The value in the way's form, if the option reads it as the release declares it: a release whose option is an int
    (--swap-space of 0.4.3) ends its start at 1.5. Raises UnwritableError with the nearest number that it reads."""
    written = way.write(value)
    if not flag.takes_whole_numbers or not isinstance(value, float) or written.lstrip("-").isdigit():
        return written
    raise UnwritableError("takes whole numbers only in this release", max(1, round(value)))


Table = Mapping[str, tuple[Way, ...]]
"""The ways of each setting by its configuration key, in the order of the command line; the first that applies wins."""


@dataclass
class Part:
    """A piece of a rendering. `said` maps each flag and variable to the setting that says it, and a flag with a key of
    its JSON."""

    argv: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    secret_env: dict[str, str] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    within: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Keys of JSON by their option."""
