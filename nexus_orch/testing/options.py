"""The command line of `vllm serve`, as far as a fake must understand it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

DEFAULT_PORT = 8000
DEFAULT_CONTEXT = 32_768


@dataclass(frozen=True)
class Options:
    """`values` holds every option by its long name with dashes; a bare flag has the value "true"."""

    model: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return self.values.get("--host", "127.0.0.1")

    @property
    def port(self) -> int:
        return int(self.values.get("--port", DEFAULT_PORT))

    @property
    def served_name(self) -> str:
        return self.values.get("--served-model-name", self.model)

    @property
    def max_model_len(self) -> int:
        return int(self.values.get("--max-model-len", DEFAULT_CONTEXT))

    @property
    def kv_cache_gib(self) -> float:
        """The size of the KV cache that is asked for, 0 for none."""
        return float(self.values.get("--kv-cache-memory-bytes", 0)) / 2**30

    @property
    def is_eager(self) -> bool:
        return self.values.get("--enforce-eager") == "true"


def parse_options(argv: Sequence[str]) -> Options:
    """`serve MODEL --option value --option=value --flag ...`; options are not checked, that is the behaviour's part."""
    words = list(argv)
    if words[:1] == ["serve"]:
        del words[0]
    model = words.pop(0) if words and not words[0].startswith("-") else ""
    values = parse_values(words)
    return Options(values.pop("--model", model), values)


def parse_values(argv: Sequence[str]) -> dict[str, str]:
    """The options by their long names with dashes; a bare flag has the value "true"."""
    words, values = list(argv), dict[str, str]()
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        values[name.replace("_", "-")] = value
    return values
