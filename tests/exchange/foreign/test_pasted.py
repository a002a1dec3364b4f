"""Commands as people copy them: with prompts, output, web blanks, typographic dashes and quotes."""

from __future__ import annotations

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.profiles.reading import read_start
from tests.exchange.reading import read, reader_of, start_in, told


@pytest.mark.parametrize("prompt", ["$ ", "(venv) me@box:~/work$ ", "root@box:/# ", "me@box work$ "])
def test_a_prompt_is_no_part_of_the_command(prompt: str) -> None:
    start = start_in(
        f"{prompt}export A=1\n{prompt}vllm serve org/m --port 7 \\\n>   --max-num-seqs 3\nINFO 01-01 started\n"
    )
    assert start.argv == ("org/m", "--port", "7", "--max-num-seqs", "3")
    assert start.env == {"A": "1"}


def test_lines_without_a_prompt_are_output() -> None:
    assert start_in("$ vllm serve org/m\nrun vllm serve other/model to serve more\n").argv == ("org/m",)


def test_the_log_behind_a_command_names_the_release() -> None:
    text = "$ vllm serve org/m\nINFO 01-01 [api_server.py:9] vLLM API server version 0.9.2\n"
    assert start_in(text).release == "0.9.2"
    assert start_in("vllm serve org/m\n# vLLM API server version 0.9.3.dev4+gabc\n").release is None


def test_blanks_of_web_pages_are_blanks() -> None:
    assert start_in("vllm serve\u00a0org/m \u200b--port\u202f9\n").argv == ("org/m", "--port", "9")


def test_a_typographic_dash_is_read_as_it_was_meant_and_told() -> None:
    imported = read("vllm serve org/m \u2014tensor-parallel-size 2 \u2013tp=4 \u2013-port 9\n")
    assert (imported.settings["serve.tensor_parallel"], imported.settings["serve.port"]) == (4, 9)
    assert "\u2014tensor-parallel-size is read as --tensor-parallel-size: its dash" in told(imported, "changed")
    assert "\u2013tp=4 is read as -tp=4" in told(imported, "changed")


def test_a_typographic_quote_is_one_problem() -> None:
    start = start_in("vllm serve org/m --hf-overrides \u2018{\u201ca\u201d: \u201cb c\u201d}\u2019 --port 9\n")
    with pytest.raises(ConfigError) as raised:
        read_start(start, reader_of("0.25.1"))
    assert [problem.message for problem in raised.value.problems] == [
        "\u2018{\u201ca\u201d: holds a typographic quote, which neither a shell nor vLLM takes for one"
    ]


def test_an_apostrophe_in_a_word_is_text() -> None:
    assert read("vllm serve org/m --served-model-name 'anna\u2019s'\n").settings["model.served_name"] == "anna\u2019s"


def test_a_comment_behind_a_backslash_is_read_as_it_was_meant() -> None:
    imported = read("vllm serve org/m \\  # the model\n  --port 9 \\ # the port\n  --max-num-seqs 4\n")
    assert (imported.settings["serve.port"], imported.settings["serve.max_num_seqs"]) == (9, 4)
    assert "line 1: a comment after the backslash ends the command there for a shell" in told(imported, "assumed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ('["serve", "org/m"]', "the word serve is one too many: vLLM's images begin with the server already"),
        ('["model", "$NAME"]', "the word model lacks its two dashes: --model, and vLLM refuses $NAME behind it"),
        ('["org/m", "--dtype auto"]', "--dtype auto is one word: an option and its value in one item of a list"),
        ('["org/m", "$NAME"]', "the word $NAME belongs to no option, and no shell fills it in here"),
    ],
)
def test_a_word_that_stands_wrong_is_explained(words: str, message: str) -> None:
    start = start_in(f"FROM vllm/vllm-openai:v0.11.2\nCMD {words}\n", "Dockerfile")
    with pytest.raises(ConfigError) as raised:
        read_start(start, reader_of("0.11.2"))
    assert raised.value.problems[0].message.startswith(message)
    assert len(raised.value.problems) == 1
