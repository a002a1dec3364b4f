"""The wheel, built from this tree and installed in an empty environment, works from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
BIN = "Scripts" if sys.platform == "win32" else "bin"


def _run(argv: list[str], cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["NEXUS_HOME"] = str(home)
    done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.timeout(600)
def test_the_wheel_works_from_another_folder(tmp_path: Path, isolated_home: Path) -> None:
    wheels, elsewhere, environment = tmp_path / "wheels", tmp_path / "elsewhere", tmp_path / "env"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    _run([*pip, "--wheel-dir", str(wheels), str(ROOT)], elsewhere, isolated_home)
    (wheel,) = wheels.glob("*.whl")
    venv.create(environment, with_pip=True)
    python = str(environment / BIN / "python")
    _run([python, "-m", "pip", "install", "--quiet", str(wheel)], elsewhere, isolated_home)

    nexus = str(environment / BIN / "nexus")
    told = _run([nexus, "plan", "hardware=rtx4090x2", "model=qwen32b", "--format", "json"], elsewhere, isolated_home)
    plan = json.loads(told.stdout)
    assert (plan["model"], len(plan["per_gpu"])) == ("qwen32b", 2)
    found = _run([python, "-c", "import nexus_orch.shipped as s; print(s.conf_dir())"], elsewhere, isolated_home)
    assert str(environment) in found.stdout
    path = _run([str(environment / BIN / "nexus-run"), "--info", "searchpath"], elsewhere, isolated_home)
    assert str(ROOT / "conf") not in path.stdout
    assert list(elsewhere.iterdir()) == []
