"""The adapters' settings tables read backwards: which setting an option or a variable of a release stands for.

Nothing about an option is written here: its name, the releases that take it, the form of its value and the reason why a
release refuses it are the table's (`nexus_orch.adapt.settings`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nexus_orch.adapt.multimodal import write_limits
from nexus_orch.adapt.speculation import write_draft, write_ngram
from nexus_orch.adapt.ways import (
    Table,
    Way,
    write_bytes_of_gib,
    write_kv_tiers,
    write_list,
    write_number,
    write_switch,
    write_whole_gib,
    write_words,
)
from nexus_orch.releases.options import names_of
from nexus_orch.types import GIB, EngineFacts


def read_whole_numbers(said: Any) -> list[int]:
    """ "20,12" as [20, 12]. Raises ValueError."""
    return [int(item) for item in str(said).split(",")]


def read_number(said: Any) -> int | float:
    """A number in its shortest form: 4 for 4.0. Raises ValueError."""
    number = float(said)
    return int(number) if number.is_integer() else number


class ForeignValueError(ValueError):
    """The option says something that no setting of ours says."""


def read_kv_tiers(said: Any) -> str:
    """The folder of a KV transfer configuration that is ours; any other one is none of our settings.

    Raises ForeignValueError.
    """
    try:
        config = json.loads(str(said))
        folder = str(config["kv_connector_extra_config"]["secondary_tiers"][0]["root_dir"])
    except (ValueError, LookupError, TypeError):
        raise ForeignValueError("no folder of KV blocks") from None
    if config != json.loads(write_kv_tiers(folder)):
        raise ForeignValueError("more than a folder of KV blocks")
    return folder


def read_ngram(said: Any) -> str:
    """The method that older releases write in the place of a draft model. Raises ForeignValueError."""
    word = str(said)
    if word.strip("[]") != "ngram":
        raise ForeignValueError("a draft model")
    return "ngram"


def read_draft(said: Any) -> str:
    """A draft model, which [ngram] is not. Raises ForeignValueError."""
    if str(said).strip("[]") == "ngram":
        raise ForeignValueError("no draft model")
    return str(said)


def read_limits(said: Any) -> dict[str, int]:
    """image=4,video=1 as a mapping. Raises ValueError, and ForeignValueError for what is a mapping already."""
    if not isinstance(said, str):
        raise ForeignValueError("no pairs")
    pairs = [item.partition("=") for item in said.split(",")]
    if not all(count.strip().isdecimal() for _, _, count in pairs):
        raise ValueError("takes pairs such as image=2,video=0")
    return {name.strip().lower(): int(count) for name, _, count in pairs}


READ: Mapping[Callable[[Any], str], Callable[[Any], Any]] = {
    write_number: read_number,
    write_bytes_of_gib: lambda said: read_number(int(said) / GIB),
    write_whole_gib: int,
    write_list: read_whole_numbers,
    write_kv_tiers: read_kv_tiers,
    write_switch: lambda said: bool(int(said)),
    write_limits: read_limits,
    write_ngram: read_ngram,
    write_draft: read_draft,
}
"""The reverse of the forms in which a table writes values; a value in any other form is written as it is."""


@dataclass(frozen=True)
class Reverse:
    """Tables read backwards for one engine. The first table is that of the engine's own adapter; the others tell what
    options of other generations meant."""

    tables: Sequence[Table]
    engine: EngineFacts
    env: Mapping[str, str] = field(default_factory=dict)
    """The variables of the command: some releases take a setting only under one of them."""

    def key_of(self, name: str, kind: Literal["flag", "env"] = "flag") -> str | None:
        """The setting that some release takes by this option or variable."""
        return next(iter(self.keys_of(name, kind)), None)

    def keys_of(self, name: str, kind: Literal["flag", "env"] = "flag") -> tuple[str, ...]:
        """The settings that some release takes by this option, under whichever of its names, or by this variable:
        several where it depends on the value."""
        names = {*names_of(name)}
        found = (
            key
            for table in self.tables
            for key, ways in table.items()
            if any(getattr(way, kind) in names or names & {*way.also} for way in ways)
        )
        return tuple(dict.fromkeys(found))

    def takes_words(self, key: str, name: str) -> bool:
        """Whether the setting is all the words of that option, not the first."""
        ways = next((table[key] for table in self.tables if key in table), ())
        return any(way.flag == name and way.write is write_words for way in ways)

    def takes_further(self, name: str, parts: Mapping[str, str]) -> bool:
        """Whether this release takes a mapping of further keys of that option's JSON as a setting."""
        found = self.read(parts[""], {}) if "" in parts else None
        return found is not None and found[0].flag == name and found[0].within == ""

    def parts_of(self, name: str) -> Mapping[str, str]:
        """The settings that this release takes as keys of the option's JSON, by these keys; "" for all others."""
        found: dict[str, str] = {}
        names = names_of(name)
        for table in self.tables:
            for key, ways in table.items():
                for way in ways:
                    if way.flag in names and way.within is not None:
                        found.setdefault(way.within, key)
        return found

    def read(self, key: str, said: Any) -> tuple[Way, Any] | None:
        """How this release takes the setting when it is said so, and the setting's value; None when it knows no way.

        Raises ValueError for a value that the way could not have written.
        """
        for way in next((table[key] for table in self.tables if key in table), ()):
            try:
                value = said if way.refused is not None else READ.get(way.write, lambda text: text)(said)
            except ForeignValueError:
                continue
            if way.applies(self.engine.version, self.engine.device, value, self.env):
                if way.refused is None and not isinstance(said, bool):
                    way.write(value)
                return way, value
        return None
