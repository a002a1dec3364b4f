"""Makefiles and Justfiles: their own variables are filled in before a shell sees a line."""

from __future__ import annotations

from nexus_orch.exchange.foreign.sources import parse_text
from nexus_orch.exchange.start import Beside, Start, reference_of, shown
from tests.exchange.reading import starts_in

MAKE = """
include defaults.env
MODEL ?= org/m
CARDS := 2
FLAGS = --port $(PORT) $(if $(EAGER),--enforce-eager)
PORT = 81
export HF_HUB_OFFLINE = 1
ifeq ($(CARDS),2)
FLAGS += -tp $(CARDS)
else
FLAGS += --max-num-seqs 1
endif

.PHONY: serve
serve: ## Start it
\t@echo "$(MODEL) on $$HOSTNAME"
\t. .venv/bin/activate && vllm serve $(MODEL) \\
\t\t$(FLAGS) | tee serve.log

big: MODEL = org/big
big:
\t-pip install vllm==0.9.2
\tvllm serve ${MODEL} --revision $(REVISION)
"""


def told_starts(text: str, name: str, **told: str) -> list[Start]:
    found = parse_text(text, name, Beside(told=told))
    assert isinstance(found, list)
    return found


def test_a_makefile_is_read_as_make_fills_it_in() -> None:
    serve, big = starts_in(MAKE, "Makefile")
    assert serve.argv == ("org/m", "--port", "81", "-tp", "2")
    assert serve.env == {"HF_HUB_OFFLINE": "1"}
    assert serve.place == "recipe serve, line 17"
    assert big.argv[:2] == ("org/big", "--revision")
    assert reference_of(big.argv[2]) == "REVISION"
    assert big.release == "0.9.2"


def test_told_variables_win_over_a_makefile() -> None:
    serve, big = told_starts(MAKE, "serve.mk", MODEL="org/x", EAGER="1", REVISION="main")
    assert serve.argv == ("org/x", "--port", "81", "--enforce-eager", "-tp", "2")
    assert big.argv == ("org/x", "--revision", "main")


def test_what_a_makefile_asks_a_program_for_is_not_known() -> None:
    [start] = starts_in("CARDS = $(shell nvidia-smi -L | wc -l)\nup:\n\tvllm serve org/m -tp $(CARDS)\n", "Makefile")
    assert reference_of(start.argv[2]) == "CARDS"
    assert shown(start.argv[2]) == "$CARDS"


JUST = """
set dotenv-load
export HF_HUB_OFFLINE := "1"
org := "org"
model := org / "m"
port := env_var_or_default("PORT", "8001")

# serve it
serve length="16384" *more:
    @echo {{model}}
    vllm serve {{model}} --port {{ port }} \\
      --max-model-len {{length}}
"""


def test_a_justfile_is_read_with_the_defaults_of_its_parameters() -> None:
    [start] = starts_in(JUST, "justfile")
    assert start.argv == ("org/m", "--port", "8001", "--max-model-len", "16384")
    assert start.env == {"HF_HUB_OFFLINE": "1"}
    [other] = told_starts(JUST, "justfile", PORT="9", length="77")
    assert other.argv == ("org/m", "--port", "9", "--max-model-len", "77")
