"""Which format a text has, and the starts of vLLM in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.anywhere import find_anywhere
from nexus_orch.exchange.foreign.compose_file import parse_compose
from nexus_orch.exchange.foreign.dockerfile import LOOKS_LIKE, parse_dockerfile
from nexus_orch.exchange.foreign.documents import read_json, read_yaml
from nexus_orch.exchange.foreign.explain import explain_nothing, explain_server_file
from nexus_orch.exchange.foreign.helm_values import is_stack_values, parse_stack_values
from nexus_orch.exchange.foreign.justfile import is_justfile, parse_justfile
from nexus_orch.exchange.foreign.kserve import find_runtimes, is_used_runtime
from nexus_orch.exchange.foreign.kubeai import is_catalogue, parse_catalogue
from nexus_orch.exchange.foreign.kubernetes import parse_manifest
from nexus_orch.exchange.foreign.llama_swap import is_llama_swap, parse_llama_swap
from nexus_orch.exchange.foreign.makefile import is_makefile, parse_makefile
from nexus_orch.exchange.foreign.markdown import has_fences, parse_markdown
from nexus_orch.exchange.foreign.recipe import is_recipe, parse_recipe
from nexus_orch.exchange.foreign.resources import parse_resource
from nexus_orch.exchange.foreign.server_file import is_server_file
from nexus_orch.exchange.foreign.shell import Place, find_starts, parse_script
from nexus_orch.exchange.foreign.slurm import read_job
from nexus_orch.exchange.foreign.systemd import parse_unit
from nexus_orch.exchange.foreign.tasks import is_dstack, is_task, parse_dstack, parse_task
from nexus_orch.exchange.foreign.windows import is_batch, is_powershell, parse_batch, parse_powershell
from nexus_orch.exchange.start import REFERENCE, Beside, Start, broken, name_of

_OBJECT = re.compile(r"\s*\{\s*[\"}]")
_UNIT = re.compile(r"^\s*(?:ExecStart\s*=|\[(?:Container|Service)\]\s*$)", re.MULTILINE)
_YAML_KEYS = re.compile(
    r"^(?:services|apiVersion|kind|model|models|applications|llm_configs|servingEngineSpec|meta|resources):",
    re.MULTILINE,
)
_YAML_BEGINS = re.compile(r"(?:[ \t]*(?:#(?!!)[^\n]*)?\n)*(?:---|[\w.\"'-]+:(?:\s|$)|-[ \t]+\S)")
"""A script may write YAML in its middle, but does not begin with it."""
ANCESTOR_KEYS = frozenset({"model_path", "gpu_count", "mem_ratio", "enable_memory_offload", "memory_offload_ratio"})
"""Keys that only the settings file of VLLM-Nexus-GUI has."""

EXPORTED = re.compile(r"^# Exported by `nexus export`: .*, vLLM (\S+)\.$", re.MULTILINE)
"""The first comment of our own files tells the release: scripts and units have no other place for it."""

WHAT_IS_READ = (
    "a shell script, a docker-compose file, a Kubernetes manifest, a systemd unit, a recipe, a file for `vllm serve "
    "--config` and others that docs/import-export.md lists; or the command itself: nexus import -- vllm serve MODEL ..."
)


def parse_command(words: Sequence[str], beside: Beside) -> list[Start]:
    """The starts of vLLM in the words of a command line that a shell has split already."""
    if len(words) == 1 and any(blank in words[0] for blank in " \n"):  # the whole command in one pair of quotes
        return parse_script(words[0], Place(beside=beside), names_lines=False)
    return find_starts(words, Place(beside=beside))


def parse_text(text: str, name: str, beside: Beside) -> list[Start] | Mapping[str, Any]:
    """The starts of vLLM in a file's text, at least one, or the settings of VLLM-Nexus-GUI.

    `name` is the file's name. Raises ConfigError for what is broken and for a file that starts no vLLM server.
    """
    if not text.strip():
        raise broken(f"{name} is empty", f"name {WHAT_IS_READ}")
    if "\x00" in text:
        raise broken(f"{name} is no text file", f"name {WHAT_IS_READ}")
    text = re.sub("[\x01-\x08]", "", text).replace("\r\n", "\n")
    found = _parse(text, name, PurePath(name).suffix.lower(), beside)
    if not found:
        raise explain_nothing(text, name, WHAT_IS_READ)
    return found


def _parse(text: str, name: str, suffix: str, beside: Beside) -> list[Start] | Mapping[str, Any]:
    header = EXPORTED.search(text)
    release = header[1] if header is not None else None
    if suffix == ".json" or _OBJECT.match(text):
        content = read_json(text, name)
        if isinstance(content, dict) and ANCESTOR_KEYS & content.keys():
            return content
        return _parse_documents([content], name, beside)
    if suffix in (".service", ".container") or _UNIT.search(text):
        return [replace(start, release=start.release or release) for start in parse_unit(text, beside)]
    is_yaml = _YAML_KEYS.search(text) is not None and _YAML_BEGINS.match(text) is not None
    if suffix not in (".yaml", ".yml") and not is_yaml:
        return _parse_script(text, name, suffix, beside, release)
    return _parse_documents(read_yaml(text, name), name, beside)


def _parse_script(text: str, name: str, suffix: str, beside: Beside, release: str | None) -> list[Start]:
    """Text that is neither JSON nor YAML nor a unit."""
    is_dockerfile = PurePath(name).name.lower().startswith(("dockerfile", "containerfile"))
    shapes: tuple[tuple[bool, Callable[[str, Beside], list[Start]]], ...] = (
        (is_makefile(name), parse_makefile),
        (is_justfile(name), parse_justfile),
        (suffix in (".md", ".markdown", ".rst", ".txt", "") and has_fences(text), parse_markdown),
        (is_dockerfile or LOOKS_LIKE.match(text) is not None, parse_dockerfile),
        (is_powershell(text, suffix), parse_powershell),
        (is_batch(text, suffix), parse_batch),
    )
    for is_shape, read in shapes:
        if is_shape:
            return read(text, beside)
    job = read_job(text)
    here = replace(beside, variables={**job.variables, **beside.variables}) if job.variables else beside
    starts = parse_script(text, Place(beside=here, release=release))
    return [replace(start, cards=start.cards or job.cards, nodes=max(start.nodes, job.nodes)) for start in starts]


def parse_documents(text: str, name: str, beside: Beside) -> list[Start]:
    """The starts in the documents of YAML text that a script applies; none where it is no YAML. What the script leaves
    open stands in it as `$(NAME)`, a variable of Kubernetes."""
    plain = REFERENCE.sub(lambda match: f"$({name_of(match[1])})", text)
    try:
        return _parse_documents(read_yaml(plain, name), name, beside)
    except ConfigError:
        return []


def _parse_documents(documents: Sequence[Any], name: str, beside: Beside) -> list[Start]:
    """The starts in the documents of a YAML or JSON file; of the readers the first counts that knows their shape."""
    mappings = [document for document in documents if isinstance(document, dict)]
    shapes: tuple[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], list[Start]]], ...] = (
        (lambda one: isinstance(one.get("services"), dict), lambda one: parse_compose(one, beside)),
        (is_recipe, parse_recipe),
        (is_stack_values, lambda one: parse_stack_values(one, beside)),
        (is_catalogue, parse_catalogue),
        (is_llama_swap, lambda one: parse_llama_swap(one, beside)),
        (is_dstack, lambda one: parse_dstack(one, beside)),
        (is_task, lambda one: parse_task(one, beside)),
    )
    for is_shape, read in shapes:
        if any(is_shape(one) for one in mappings):
            return [start for one in mappings if is_shape(one) for start in read(one)]
    runtimes = find_runtimes(mappings)
    mappings = [one for one in mappings if not is_used_runtime(one, mappings)]
    resources = [(one, parse_resource(one, beside, runtimes)) for one in mappings]
    found = [start for _, starts in resources for start in starts or ()]
    found += parse_manifest([one for one, starts in resources if starts is None], beside)
    if not found and len(mappings) == 1 and is_server_file(mappings[0]):
        return [_server_file(mappings[0], name)]
    return found or [start for document in documents for start in find_anywhere(document, beside)]


def _server_file(document: Mapping[str, Any], name: str) -> Start:
    if not any(key in document for key in ("model", "model-tag", "model_tag")):
        raise explain_server_file(document, name)
    return Start((), place="the file", config=document)
