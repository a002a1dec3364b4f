"""Write nexus_orch/data/vllm_architectures.json from the source files of vLLM releases.

    python tools/make_architecture_catalogue.py VERSION=FOLDER ...

Each FOLDER is the package `vllm` of that release, for example unpacked from its source archive. The releases must be
those of the flags catalogue.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nexus_orch.facts.engine.architectures import FILE, make_architecture_catalogue, read_architectures
from nexus_orch.releases.known import known_releases


def main() -> int:
    """Read every release named on the command line and write the catalogue; 1 when one is missing or unreadable."""
    folders = dict(argument.split("=", 1) for argument in sys.argv[1:])
    found = {release: read_architectures(Path(folders.get(release, ""))) for release in known_releases()}
    known = {release: names for release, names in found.items() if names is not None}
    if len(known) < len(found):
        sys.stderr.write(f"not read: {', '.join(found.keys() - known.keys())}\n")
        return 1
    content = make_architecture_catalogue(known, known_releases())
    lines = [f"{json.dumps(name)}: {json.dumps(spans)}" for name, spans in content.pop("architectures").items()]
    head = json.dumps(content, indent=1).removesuffix("\n}")
    target = Path(__file__).resolve().parent.parent / "nexus_orch" / "data" / FILE
    target.write_text(head + ',\n "architectures": {\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")
    sys.stdout.write(f"{target}: {len(lines)} architectures of {len(known)} releases\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
