"""Which format a text has, and the starts of vLLM in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from nexus_orch.exchange.foreign.compose_file import parse_compose
from nexus_orch.exchange.foreign.kubernetes import parse_manifest
from nexus_orch.exchange.foreign.shell import find_starts, parse_script
from nexus_orch.exchange.foreign.systemd import parse_unit
from nexus_orch.exchange.start import Start, Variables, broken

SERVER_FILE_KEYS = frozenset({"model", "model-tag", "served-model-name", "max-model-len", "tensor-parallel-size"})
"""Some of what stands in a file for `vllm serve --config`."""
_OBJECT = re.compile(r"\s*\{\s*[\"}]")
_UNIT = re.compile(r"^\s*ExecStart\s*=", re.MULTILINE)
ANCESTOR_KEYS = frozenset({"model_path", "gpu_count", "mem_ratio", "enable_memory_offload", "memory_offload_ratio"})
"""Keys that only the settings file of VLLM-Nexus-GUI has."""

EXPORTED = re.compile(r"^# Exported by `nexus export`: .*, vLLM (\S+)\.$", re.MULTILINE)
"""The first comment of our own files tells the release: scripts and units have no other place for it."""

WHAT_IS_READ = (
    "a shell script, a docker-compose file, a Kubernetes manifest, a systemd unit, a file for `vllm serve --config` "
    "or the settings of VLLM-Nexus-GUI (JSON); or the command itself: nexus import -- vllm serve MODEL ..."
)


def parse_command(words: Sequence[str], known: Variables) -> list[Start]:
    """The starts of vLLM in the words of a command line that a shell has split already."""
    if len(words) == 1 and any(blank in words[0] for blank in " \n"):  # the whole command in one pair of quotes
        return parse_script(words[0], "the command", known=known)
    given: dict[str, str] = {}
    rest = list(words)
    while rest and "=" in rest[0] and rest[0].partition("=")[0].isidentifier():
        name, _, given[name] = rest.pop(0).partition("=")
    return find_starts(rest, given, "the command")


def parse_text(text: str, name: str, known: Variables) -> list[Start] | Mapping[str, Any]:
    """The starts of vLLM in a file's text, or the settings of VLLM-Nexus-GUI.

    `name` is the file's name, `known` the variables whose values scripts and compose files may use. Raises ConfigError
    for what is broken.
    """
    if not text.strip():
        raise broken(f"{name} is empty", f"name {WHAT_IS_READ}")
    if "\x00" in text:
        raise broken(f"{name} is no text file", f"name {WHAT_IS_READ}")
    suffix = PurePath(name).suffix.lower()
    header = EXPORTED.search(text)
    release = header[1] if header is not None else None
    if suffix == ".json" or _OBJECT.match(text):
        return _parse_json(text, name)
    if suffix == ".service" or _UNIT.search(text):
        return [replace(start, release=release) for start in parse_unit(text)]
    documents = _read_yaml(text, name, is_sure=suffix in (".yaml", ".yml"))
    if documents is not None:
        return _parse_documents(documents, known)
    return [replace(start, release=release) for start in parse_script(text, "", known=known)]


def _parse_json(text: str, name: str) -> list[Start] | Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise broken(f"{name} is no readable JSON: {error}", "mend the file") from None
    if isinstance(content, dict) and ANCESTOR_KEYS & content.keys():
        return content
    return _parse_documents([content], {})


def _parse_documents(documents: Sequence[Any], env: Variables) -> list[Start]:
    mappings = [document for document in documents if isinstance(document, dict)]
    if any("services" in document for document in mappings):
        return [start for document in mappings for start in parse_compose(document, env)]
    if any("kind" in document or "spec" in document for document in mappings):
        return parse_manifest(documents)
    return [Start((), place="the file", config=document) for document in mappings if _is_server_file(document)]


def _is_server_file(document: Mapping[str, Any]) -> bool:
    return not SERVER_FILE_KEYS.isdisjoint(str(key).replace("_", "-") for key in document)


def _read_yaml(text: str, name: str, *, is_sure: bool) -> list[Any] | None:
    """The documents of a YAML file; None when it is none, or says nothing but text. Raises ConfigError when broken."""
    import yaml  # noqa: PLC0415 - commands need no YAML

    looks_like_yaml = is_sure or any(f"\n{key}:" in f"\n{text}" for key in ("services", "apiVersion", "kind", "model"))
    if not looks_like_yaml:
        return None
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        remedy = "render the template first: helm template" if "{{" in text else "mend the file"
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise broken(f"{name} is no readable YAML{where}: {what}", remedy) from None
