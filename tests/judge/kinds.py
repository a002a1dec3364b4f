"""What a short log of a kind of failure must come to: the cause, the lines shown, what is said and never said."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus_orch.judge.log.starts import read_history
from nexus_orch.judge.start.diagnosis import Diagnosis, judge_history

CORE = "(EngineCore pid=7) ERROR 01-15 09:00:00 [core.py:9] "
INFO = "(EngineCore pid=7) INFO 01-15 09:00:00 [gpu_model_runner.py:9] "
HEAD = f"{CORE}Traceback (most recent call last):"
SYMPTOM = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


def frame(file: str, code: str) -> tuple[str, ...]:
    return (HEAD, f'{CORE}  File "/opt/venv/lib/{file}", line 3, in f', f"{CORE}    {code}")


@dataclass(frozen=True)
class Kind:
    lines: tuple[str, ...]
    cause: str | None
    shows: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = field(default=())


def diagnose(lines: tuple[str, ...]) -> Diagnosis:
    return judge_history(read_history(lines))


def check(kind: Kind) -> None:
    found = diagnose(kind.lines)
    assert found.cause == kind.cause
    assert [text for text in kind.shows if not any(text in line for line in found.evidence)] == []
    assert [text for text in kind.says if text not in found.remedy] == []
    assert [text for text in kind.never if text in found.remedy] == []
