"""Lines of a flood that are skipped are those that tell nothing; what tells something is read wherever it stands."""

from __future__ import annotations

import pytest

from nexus_orch.data import load
from nexus_orch.judge.log.lines import parse_line
from nexus_orch.judge.log.skim import READ_OF_SHAPE, READ_OF_SOURCE, Skimmer, tells_nothing
from nexus_orch.judge.log.starts import read_history
from nexus_orch.judge.start.diagnosis import judge_history
from tests.judge.logs import lines_of

ACCESS = '(APIServer pid=1) INFO:     192.0.2.7:{} - "POST /v1/completions HTTP/1.1" 200 OK'
REQUEST = "(APIServer pid=1) INFO 01-15 10:10:10 [logger.py:41] Received request {}: prompt: 'CUDA out of memory {}'"
TABLE = load("log_patterns.json")


def is_read(skimmer: Skimmer, text: str) -> bool:
    if skimmer.skips(text):
        return False
    skimmer.note(text, parse_line(text))
    return True


def test_of_lines_that_differ_in_figures_only_some_are_read() -> None:
    skimmer = Skimmer()
    assert sum(is_read(skimmer, ACCESS.format(number)) for number in range(10_000, 11_000)) == READ_OF_SHAPE


def test_of_requests_with_other_words_only_some_are_read() -> None:
    skimmer = Skimmer()
    words = (
        "abcdefghij"[number % 10] * (number % 97 + 1) + "xyz"[number % 3] * (number // 97) for number in range(3_000)
    )
    assert sum(is_read(skimmer, REQUEST.format(word, word)) for word in words) <= READ_OF_SOURCE


@pytest.mark.parametrize("kind", ["signatures", "measurements"])
def test_no_line_that_a_pattern_knows_is_idle(kind: str) -> None:
    for entry in TABLE[kind]:
        assert not tells_nothing(parse_line(entry["example"])), entry["name"]


@pytest.mark.parametrize("name", ["0.32.0-cpu-context-too-long", "0.25.1-h100-q14_nooff", "0.32.0-cpu-ok"])
def test_a_flood_before_and_behind_changes_nothing(name: str) -> None:
    lines = lines_of(name)
    flood = [f"some library says {number} of {number * 7}" for number in range(5_000)]
    quiet, loud = judge_history(read_history(lines)), judge_history(read_history([*flood, *lines, *flood]))
    assert (loud.cause, loud.evidence, loud.measured) == (quiet.cause, quiet.evidence, quiet.measured)
