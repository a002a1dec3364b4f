"""The probe's process: what it says is taken, and whatever else it does becomes one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.bus.measure import MeasuredBus, measure_bus, require_engine
from nexus_orch.errors import ConfigError, LaunchError
from nexus_orch.judge.learned.bus import CardBus
from tests.bus.probes import ANSWER, COPY, RAM, READ, write_answering, write_python
from tests.plan.cases import make_gpu

CARD = make_gpu(name="NVIDIA H200")
SECOND = make_gpu(name="NVIDIA H200", index=3)


def _refused(python: str, limit_seconds: float = 60.0) -> str:
    with pytest.raises(LaunchError) as caught:
        measure_bus(python, [CARD], lambda _: None, limit_seconds=limit_seconds)
    (problem,) = caught.value.problems
    assert problem.message.startswith("the bus of GPU 0 (NVIDIA H200) could not be measured: ")
    assert "nexus doctor" in (problem.remedy or "")
    return problem.message.partition("measured: ")[2]


def test_each_card_is_measured_by_itself(tmp_path: Path) -> None:
    """The stand-in tells the number of the card that it was shown as its rate."""
    answer = "print('{\"copy_bytes_per_second\": ' + '1' + os.environ['CUDA_VISIBLE_DEVICES'] + '}')"
    told: list[str] = []
    measured = measure_bus(write_python(tmp_path, f"import os\n{answer}"), [CARD, SECOND], told.append)
    assert measured == MeasuredBus((CardBus(0, "NVIDIA H200", 10.0), CardBus(3, "NVIDIA H200", 13.0)), None)
    assert told == ["GPU 0 (NVIDIA H200)", "GPU 3 (NVIDIA H200)"]


def test_reads_and_ram_are_told_where_they_could_be_measured(tmp_path: Path) -> None:
    measured = measure_bus(write_answering(tmp_path), [CARD], lambda _: None)
    assert measured == MeasuredBus((CardBus(0, "NVIDIA H200", COPY, READ),), RAM)


def test_what_libraries_print_around_the_answer_is_passed_over(tmp_path: Path) -> None:
    noisy = f"print('INFO importing ...', 7, sep='\\n')\nprint({ANSWER!r})\nprint('bye')"
    measured = measure_bus(write_python(tmp_path, noisy), [CARD], lambda _: None)
    assert measured.cards[0].copy_bytes_per_second == COPY


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "garbage",
        "[1]",
        "7",
        "null",
        "{}",
        '{"copy_bytes_per_second": "fast"}',
        '{"copy_bytes_per_second": 0}',
        '{"copy_bytes_per_second": NaN}',
        '{"copy_bytes_per_second": 1e9, "read_bytes_per_second": [1]}',
    ],
)
def test_an_answer_that_is_none_is_refused(tmp_path: Path, answer: str) -> None:
    assert _refused(write_answering(tmp_path, answer)) == (answer or "exit code 0, without a word")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    assert "�" in _refused(write_python(tmp_path, "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe')"))


def test_the_last_word_of_a_failure_is_told(tmp_path: Path) -> None:
    said = _refused(write_python(tmp_path, "raise SystemExit('CUDA error: out of memory')"))
    assert said == "CUDA error: out of memory"


def test_an_answer_before_a_failure_does_not_count(tmp_path: Path) -> None:
    assert _refused(write_python(tmp_path, f"print({ANSWER!r})\nraise SystemExit('lost the card')")) == "lost the card"


def test_a_probe_that_is_killed_is_told(tmp_path: Path) -> None:
    assert _refused(write_python(tmp_path, "import os\nos.kill(os.getpid(), 9)")) == "exit code -9, without a word"


def test_a_probe_that_hangs_is_given_up(tmp_path: Path, no_process_left: None) -> None:
    python = write_python(tmp_path, "import time\ntime.sleep(600)")
    assert _refused(python, limit_seconds=0.2) == "no answer within 0.2 s"


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    assert _refused(str(tmp_path / "none")) == f"{tmp_path / 'none'}: No such file or directory"


def test_no_engine_is_no_probe() -> None:
    with pytest.raises(ConfigError, match="no engine is installed"):
        require_engine(None)
