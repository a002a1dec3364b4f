"""vLLM's own options beside our keys, for people who start vLLM by hand: "model.dtype=auto (--dtype auto)"."""

from __future__ import annotations

import re

from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.releases.known import known_releases, parse_release
from nexus_orch.releases.options import names_of

_KEY = re.compile(r"\b(?P<key>(?:model|serve|memory)(?:\.[a-z_]+)+)(?:=(?P<value>[\w.-]+(?<![.])))?")
_ARGUMENTS = re.compile(r"serve\.extra_args=\[(?P<words>[^\]]*)\]")
_STANDS_FOR = {"memory.strategy": "--cpu-offload-gb", "memory.kv_offload_gib": "--kv-offloading-size"}
"""Keys that are more than one option: the one that does most of it."""


def name_options(remedy: str, release: str | None) -> str:
    """The remedy with vLLM's option behind each key's first place; a key that has none in the release is told so."""
    version = str(parse_release(release or known_releases()[-1]))
    named: set[str] = set()

    def name(found: re.Match[str]) -> str:
        key = found["key"]
        if key in named or key == "serve.extra_args":
            return found[0]
        named.add(key)
        return found[0] + _render(key, found["value"], version)

    told = _KEY.sub(name, remedy)
    return _ARGUMENTS.sub(lambda found: f"{found[0]} ({' '.join(found['words'].split(','))})", told)


def _render(key: str, value: str | None, version: str) -> str:
    flags = catalogue_flags(version)
    ways = [way for way in SETTINGS.get(key, ()) if way.refused is None and (way.flag or way.env)]
    options = [_STANDS_FOR[key]] if key in _STANDS_FOR else [way.flag for way in ways if way.flag is not None]
    flag = next((name for option in options for name in names_of(option) if name in flags), None)
    if flag is not None:
        return f" ({flag})" if value in (None, "true", "null", "hybrid") else f" ({flag} {value})"
    if options and (key in _STANDS_FOR or len(options) == len(ways)):
        return f" (which vLLM {version} lacks)"
    return ""
