"""What a healthy server said of requests: refused, or without the adapter or the file that they named."""

from __future__ import annotations

import re

# The first that matches any line speaks for all.
_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"lora|adapter", re.IGNORECASE),
        "a request named a LoRA adapter that could not be used: give the adapter's path or hub id as the server sees "
        "it, or load it first",
    ),
    (
        re.compile(r"chat template", re.IGNORECASE),
        "chat requests are refused while the model has no chat template: start the server with one "
        "(--chat-template FILE), or ask /v1/completions",
    ),
    (
        re.compile(r"encoder cache|[Aa]t most \d+ \w+\(s\)|limit-mm-per-prompt|limit_mm_per_prompt"),
        "a request carried more or larger images (or other media) than this server takes: make them smaller, or start "
        "the server for more (--limit-mm-per-prompt, --max-num-batched-tokens)",
    ),
    (
        re.compile(
            r"ConnectionError|ConnectTimeout|Max retries exceeded|ClientConnector|(?:image|video|audio)_url"
            r"|cannot identify image|(?:fetch|load|open|decode|read)\w* (?:the )?(?:image|video|audio|media|file)"
            r"|allowed-local-media-path|allowed-media-domains|No such file",
            re.I,
        ),
        "a request named a file (an image, say) that the server could not fetch or read: the server needs a way to "
        "that address, or the request must carry the data itself",
    ),
    (
        re.compile(r"maximum context length|max_model_len|is too long|longer than the maximum model length"),
        "a request was longer than the server's context: shorten it, or serve a longer context",
    ),
    (
        re.compile(r"tool.choice|tool-call-parser|enable-auto-tool-choice", re.IGNORECASE),
        "a request wanted tool calls, which this server was not started for (--enable-auto-tool-choice and "
        "--tool-call-parser)",
    ),
    (re.compile(r"The model `|does not exist", re.I), "a request named a model that this server does not serve"),
    (
        re.compile(r'^.*" 404(?: Not Found)?$'),
        "a request asked for an address or a model that this server does not have",
    ),
)
_REFUSED = "a request was refused; the lines of evidence say why"


def render_requests(lines: tuple[str, ...]) -> str:
    """What to say of requests that failed, behind the state of the server; empty when none did."""
    return f"; {_find_kind(lines) or _REFUSED}" if lines else ""


def render_outlived(lines: tuple[str, ...]) -> str:
    """What to say of errors that a start wrote before it came up all the same; empty when there were none."""
    if not lines:
        return ""
    kind = _find_kind(lines)
    told = "" if kind is None else f" (of consequence for requests: {kind})"
    return f"; while it started it wrote errors, the first lines of evidence, which did not keep it from that{told}"


def _find_kind(lines: tuple[str, ...]) -> str | None:
    text = "\n".join(lines)
    return next((told for pattern, told in _KINDS if pattern.search(text)), None)
