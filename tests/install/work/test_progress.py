from __future__ import annotations

import io

import pytest
from rich.console import Console

from nexus_orch.install.work import progress


def _tell(reporter: progress.Reporter) -> None:
    reporter.begin(["make [it]", "check it"])
    reporter.skip("make [it]")
    reporter.start("check it")
    reporter.output("[bold]pip[/bold] says")
    reporter.note("by the way")
    reporter.finish("check it", 1.25)


def test_plain_lines_when_piped() -> None:
    file = io.StringIO()
    with progress.show_progress(Console(file=file, width=200)) as reporter:
        _tell(reporter)
    assert file.getvalue().splitlines() == [
        "[1/2] make [it]: done before",
        "[2/2] check it",
        "by the way",
        "[2/2] check it: done in 1.2 s",
    ]


def test_plain_output_shows_the_tools_line_now_and_then_and_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0.0)
    file = io.StringIO()
    with progress.show_progress(Console(file=file, width=20)) as reporter:
        reporter.begin(["do it"])
        reporter.start("do it")
        reporter.output("x" * 500)
    assert file.getvalue().splitlines() == ["[1/1] do it", f"[1/1] {'x' * (progress.PLAIN_LINE_LENGTH - 3)}..."]


def test_a_terminal_shows_the_running_step_and_keeps_the_finished_ones() -> None:
    file = io.StringIO()
    with progress.show_progress(Console(file=file, width=100, force_terminal=True)) as reporter:
        _tell(reporter)
    shown = file.getvalue()
    assert "[1/2] make [it]: done before" in shown
    assert "[2/2] check it: done in 1.2 s" in shown
    assert "by the way" in shown


def test_silence_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    _tell(progress.SilentReporter())
    assert capsys.readouterr() == ("", "")
