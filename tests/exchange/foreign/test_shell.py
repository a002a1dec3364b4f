"""Shell text: words, variables, and the starts of vLLM among the commands. The commands are our own, in the style of
public documentation and issues."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.sources import parse_text
from nexus_orch.exchange.shell.expand import Expander
from nexus_orch.exchange.shell.output import print_of
from nexus_orch.exchange.shell.parser import parse
from nexus_orch.exchange.shell.state import State
from nexus_orch.exchange.shell.tree import Simple
from nexus_orch.exchange.start import Beside, Published, reference_of
from tests.exchange.reading import start_in, starts_in


@pytest.mark.parametrize(
    "line",
    [
        "a b  c",
        "a 'b c' \"d e\"",
        r"a\ b c\'d",
        """ a'b'"c"d """,
        """ '{"x": "y z"}' """,
        """ "{\\"x\\": 1}" """,
        "a \\\n  b \\\n  c",
        "a # a comment",
        "a#b c",
        "''",
        "a '' b",
        "--x='y z' -tp 2",
        '"it\'s" \'say "hi"\'',
        r'"a\b" "a\\b" "a\$b"',
    ],
)
def test_words_are_those_of_bash(line: str) -> None:
    script = f"printf '%s\\0' {line}"
    answer = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
    assert words_of(line) == answer.stdout.split("\0")[:-1]


def words_of(line: str) -> list[str]:
    """The words of the first command."""
    [node] = parse(f"printf {line}")[0]
    assert isinstance(node, Simple)
    expander = Expander(State(), print_of)
    return [text for word in node.words[1:] for text in expander.fields(word)]


@given(st.text(st.sampled_from("ab '\"\\$#;&|<>()\n`{}[]=!"), max_size=60))
def test_any_text_is_a_script_or_is_refused(text: str) -> None:
    try:
        starts_in(f"{text}\nvllm serve org/m", "a.sh")
    except ConfigError as error:
        assert "Traceback" not in str(error)


def test_assignments_and_a_continued_line() -> None:
    start = start_in(
        "CUDA_VISIBLE_DEVICES=0,1 HF_HOME=/data/hub \\\n  vllm serve org/model \\\n  -tp 2   # two cards\n"
    )
    assert start.argv == ("org/model", "-tp", "2")
    assert start.env == {"CUDA_VISIBLE_DEVICES": "0,1", "HF_HOME": "/data/hub"}
    assert start.place == "line 1"


def test_variables_arrays_and_exports() -> None:
    script = """
    #!/bin/bash
    set -e
    MODEL=${1:-org/model}
    PORT="${PORT:-8001}"
    export VLLM_LOGGING_LEVEL=DEBUG
    EXTRA="--enforce-eager --max-num-seqs 8"
    ARGS=(
      --port "$PORT"   # where
      --served-model-name 'my model'
    )
    ARGS+=(--seed 7)
    echo "vllm serve $MODEL is starting"
    nohup vllm serve $MODEL "${ARGS[@]}" $EXTRA "$@" > vllm.log 2>&1 &
    """
    start = start_in(script)
    assert start.argv == (
        *("org/model", "--port", "8001", "--served-model-name", "my model"),
        *("--seed", "7", "--enforce-eager", "--max-num-seqs", "8"),
    )
    assert start.env == {"VLLM_LOGGING_LEVEL": "DEBUG"}
    assert any("$@" in note for note in start.notes)


def test_a_number_before_a_redirection_stays_a_value() -> None:
    assert start_in("vllm serve m -tp 2 > log 2>&1 &").argv == ("m", "-tp", "2")


def test_literal_dollars_are_no_variables() -> None:
    start = start_in("vllm serve m --chat-template '{{ $HOME }}' --revision \"\\$x\"")
    assert start.argv == ("m", "--chat-template", "{{ $HOME }}", "--revision", "$x")


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve m --port 1",
        "/opt/env/bin/vllm serve m --port 1",
        "python -m vllm.entrypoints.openai.api_server m --port 1",
        "python3 -u -m vllm.entrypoints.openai.api_server m --port 1",
        "/usr/bin/python3.11 -m vllm.entrypoints.cli.main serve m --port 1",
        "uv run --python 3.12 vllm serve m --port 1",
        "sudo -E env vllm serve m --port 1",
        "numactl --cpunodebind=0 vllm serve m --port 1 | tee log",
        "cd /srv && source env/bin/activate && exec vllm serve m --port 1",
        "bash -lc 'vllm serve m --port 1'",
        "tmux new-session -d -s llm 'vllm serve m --port 1'",
        "docker exec -it box vllm serve m --port 1",
        "python /src/vllm/entrypoints/openai/api_server.py m --port 1",
    ],
)
def test_every_launcher_is_known(line: str) -> None:
    assert start_in(line).argv == ("m", "--port", "1")


@pytest.mark.parametrize(
    "line", ["vllm bench serve m", "pip install vllm", "pkill -f 'vllm serve'", "echo vllm serve m"]
)
def test_what_starts_no_server(line: str) -> None:
    with pytest.raises(ConfigError, match="starts no vLLM server"):
        starts_in(line)


def test_docker_run() -> None:
    start = start_in(
        "docker run -d --rm --name llm --runtime nvidia --gpus '\"device=1,2\"' --shm-size=16g --ipc=host "
        "-v ~/models:/models -v cache:/home/app/.cache -p 127.0.0.1:9000:8000 -p 9001:9001 -e HF_TOKEN --env A='b c' "
        "vllm/vllm-openai:v0.9.2 --model /models/m -tp 2"
    )
    assert start.argv == ("--model", "/models/m", "-tp", "2")
    assert start.container is not None
    assert start.container.image == "vllm/vllm-openai:v0.9.2"
    assert start.container.mounts == (("~/models", "/models"),)
    assert start.container.ports == (Published(9000, 8000, "127.0.0.1"), Published(9001, 9001))
    assert start.env["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert start.env["A"] == "b c"


def test_docker_run_with_a_shell_inside() -> None:
    line = "docker run --entrypoint bash my/image -c 'export A=1; vllm serve m --port 8080'"
    start = start_in(line)
    assert start.argv == ("m", "--port", "8080")
    assert start.env == {"A": "1"}


def test_another_image_is_no_vllm() -> None:
    with pytest.raises(ConfigError, match="starts no vLLM server"):
        starts_in("docker run nginx:latest --port 80")


def test_several_starts_are_all_found() -> None:
    script = "vllm serve a --port 1 &\nsleep 5\nvllm serve b --port 2\n"
    assert [(start.argv[0], start.place) for start in starts_in(script)] == [("a", "line 1"), ("b", "line 3")]


def test_an_open_quote_names_its_line() -> None:
    with pytest.raises(ConfigError, match="in line 2 is never closed"):
        starts_in("cd /srv\nvllm serve 'm --port 1\n")


def test_an_empty_list_in_quotes_adds_no_word() -> None:
    assert start_in('A=()\nB=(--port 9)\nvllm serve org/m "${A[@]}" "${B[@]}" "${A[@]}"\n').argv == (
        "org/m",
        "--port",
        "9",
    )


ARGUMENTS = """
TP=2
MORE=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --tp) TP="$2"; shift 2 ;;
    *) MORE+=("$1"); shift ;;
  esac
done
vllm serve org/m -tp "$TP" "${MORE[@]}"
"""


def test_a_loop_over_arguments_does_nothing_without_arguments() -> None:
    start = start_in(ARGUMENTS)
    assert start.argv == ("org/m", "-tp", "2")
    assert start.notes == ("the arguments that the script is called with ($@)",)


FIRST_ARGUMENT = """
MODEL="${1:-${MODEL:-}}"
if [[ -z "$MODEL" ]]; then
  echo "Usage: serve <model>" >&2
  exit 2
fi
vllm serve "$MODEL" --port 9
"""


def test_a_script_that_ends_without_its_argument_asks_for_it() -> None:
    start = start_in(FIRST_ARGUMENT)
    assert reference_of(start.argv[0]) == "MODEL"
    assert start.argv[1:] == ("--port", "9")
    found = parse_text(FIRST_ARGUMENT, "serve.sh", Beside(told={"MODEL": "org/m"}))
    assert isinstance(found, list)
    assert found[0].argv == ("org/m", "--port", "9")


SIZES = """
SIZE="${1:-small}"
case "$SIZE" in
  small) MODEL=org/small ;;
  large) MODEL=org/large ;;
esac
vllm serve "$MODEL"
"""


def test_a_case_that_is_read_for_a_default_says_so() -> None:
    start = start_in(SIZES)
    assert start.argv == ("org/small",)
    assert 'line 3: `case "$SIZE"` is read for the value that the file gives' in start.assumptions[0]
    found = parse_text(SIZES, "serve.sh", Beside(told={"SIZE": "large"}))
    assert isinstance(found, list)
    assert found[0].argv == ("org/large",)


def test_a_script_that_writes_yaml_is_a_script() -> None:
    start = start_in("cat > /tmp/c.yaml <<EOF\nmodel: org/m\nEOF\nvllm serve --config /tmp/c.yaml\n", "serve.sh")
    assert start.files == {"/tmp/c.yaml": "model: org/m\n"}


OPTIONS = """
MODEL=""
PORT=8000
while [[ $# -gt 0 ]]; do
  case $1 in
    --model) MODEL="$2"; shift 2 ;;
    *) exit 1 ;;
  esac
done
if [ -z "$MODEL" ]; then exit 1; fi
CMD="vllm serve ${MODEL} --port ${PORT}"
eval ${CMD}
"""


def test_a_script_whose_options_say_the_model_asks_for_it() -> None:
    start = start_in(OPTIONS)
    assert reference_of(start.argv[0]) == "MODEL"
    found = parse_text(OPTIONS, "serve.sh", Beside(told={"MODEL": "org/m"}))
    assert isinstance(found, list)
    assert found[0].argv == ("org/m", "--port", "8000")


def test_a_file_beside_the_script_is_there() -> None:
    text = 'if [ -f "$PWD/.env" ]; then . "$PWD/.env"; else exit 1; fi\nvllm serve $M\n'
    found = parse_text(text, "serve.sh", Beside({"PWD": "/srv"}, read={"/srv/.env": "M=org/m"}.get))
    assert isinstance(found, list)
    assert [start.argv for start in found] == [("org/m",)]


@pytest.mark.parametrize("following", ["elif true; then true; fi", "fi; wait", "fi\necho done"])
def test_a_backslash_before_an_empty_line_ends_before_another_command(following: str) -> None:
    text = f"if true; then\n  vllm serve org/m \\\n    --port 9 \\\n\n{following}\n"
    assert start_in(text).argv == ("org/m", "--port", "9")


def test_a_script_that_is_written_counts_when_it_is_run() -> None:
    text = "cat > /w/s.sh <<'E'\nvllm serve ${1:-org/a}\nE\nchmod +x /w/s.sh\n/w/s.sh org/b\n"
    assert start_in(text).argv == ("org/b",)


MANIFEST = """kind: Pod
spec: {containers: [{image: 'vllm/vllm-openai:v0.11.2', args: [--model, $M]}]}
"""


@pytest.mark.parametrize(
    "text",
    [
        f"M=org/m\ncat <<EOF | kubectl apply -f -\n{MANIFEST}EOF\n",
        f"M=org/m\nkubectl apply -f - <<EOF\n{MANIFEST}EOF\n".replace("spec: {", "spec: {a: $B, "),
        f"M=org/m\ncat > pod.yaml <<EOF\n{MANIFEST}EOF\nkubectl apply -f pod.yaml\n",
    ],
)
def test_a_manifest_that_a_script_applies_is_read(text: str) -> None:
    assert start_in(text).argv == ("--model", "org/m")
