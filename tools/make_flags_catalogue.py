"""Write nexus_orch/data/vllm_flags.json from the source files of vLLM releases.

    python tools/make_flags_catalogue.py VERSION=FOLDER ...

Each FOLDER is the package `vllm` of that release, for example unpacked from its wheel.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nexus_orch.facts.options.catalogue import make_catalogue
from nexus_orch.facts.options.source import read_flags
from nexus_orch.releases.known import CATALOGUE


def main() -> None:
    """Read every release named on the command line and write the catalogue."""
    folders = dict(argument.split("=", 1) for argument in sys.argv[1:])
    flags = {version: read_flags(Path(folder))[0] for version, folder in folders.items()}
    content = make_catalogue(flags)
    lines = [f"{json.dumps(name)}:{json.dumps(spans)}" for name, spans in content.pop("flags").items()]
    head = json.dumps(content, indent=1).removesuffix("\n}")
    target = Path(__file__).resolve().parent.parent / "nexus_orch" / "data" / CATALOGUE
    target.write_text(head + ',\n "flags": {\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")
    print(f"{target}: {len(lines)} options of {len(flags)} releases, {target.stat().st_size:,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
