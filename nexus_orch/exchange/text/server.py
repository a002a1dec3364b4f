"""Where in the words of a command the vLLM server's own arguments begin, and which release is installed for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_API_SERVERS = frozenset({"vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server"})
_COMMANDS = frozenset({"vllm.entrypoints.cli.main", "vllm.scripts", "vllm.entrypoints.cli", "vllm"})
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""What a model on a hub is called; every other name is a folder's."""
_RELEASE = re.compile(r"v?(\d+\.\d+(?:\.\d+){0,2}(?:\.post\d+)?)(?![.\d])")
_IMAGE_FILE = re.compile(r"vllm[\w-]*?[-_]v?(\d+\.\d+(?:\.\d+){0,2}(?:\.post\d+)?)\.sif$")
"""A file of Apptainer, which people name like the image that it was made of."""
_FIRST_YEAR = 20
"""NVIDIA's own images of vLLM count by year and month (26.05), others by the date."""
_PINNED = re.compile(r"vllm(?:\[[\w,-]*\])?={2,3}v?(\d+\.\d+(?:\.\d+){0,2}(?:\.post\d+)?)(?![.\d])")


def find_server_arguments(words: Sequence[str]) -> list[str] | None:
    """What follows `vllm serve` or its module in these words; None when no server is started."""
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        name = word.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
        if name == "vllm" and following == "serve":
            return list(words[index + 2 :])
        if word == "-m" and following in _API_SERVERS:
            return list(words[index + 2 :])
        if word == "-m" and following in _COMMANDS and words[index + 2 : index + 3] == ["serve"]:
            return list(words[index + 3 :])
        if name == "api_server.py" and "vllm" in word:
            return list(words[index + 1 :])
    return None


def parse_image_release(image: str) -> str | None:
    """The release that the tag of an image names (`vllm/vllm-openai:v0.9.2`), None for `latest` and the like."""
    file = _IMAGE_FILE.search(image)
    if file is not None:
        return file[1]
    name, _, tag = image.partition("@")[0].rpartition(":")
    if not name or "/" in tag or "vllm" not in name.rpartition("/")[2]:
        return None
    match = _RELEASE.match(tag)
    is_date = match is not None and int(match[1].partition(".")[0]) >= _FIRST_YEAR
    return match[1] if match is not None and not is_date and "/ai-dynamo/" not in name else None


def find_pinned_release(words: Sequence[str]) -> str | None:
    """The release that `pip install vllm==V` and its relatives install."""
    if "install" not in words and "add" not in words and "--with" not in words:
        return None
    pinned = [match[1] for word in words if (match := _PINNED.fullmatch(word.strip("'\"")))]
    return pinned[-1] if pinned else None
