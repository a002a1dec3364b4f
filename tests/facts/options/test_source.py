"""Options read from sources that declare them in the ways that releases of vLLM do."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.facts.options.source import FlagsUnreadableError, read_flags
from nexus_orch.types import Flag
from tests.engine.sources import FILES, write_package


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, Flag]:
    return read_flags(write_package(tmp_path))[0]


def test_all_options_are_found_and_nothing_else(flags: dict[str, Flag]) -> None:
    assert sorted(flags) == [
        "--block-size",
        "--computed",
        "--devices",
        "--dtype",
        "--enforce-eager",
        "--first",
        "--gpu-memory-utilization",
        "--hf-token",
        "--host",
        "--level",
        "--log-requests",
        "--max-model-len",
        "--model",
        "--names",
        "--origins",
        "--overrides",
        "--port",
        "--quantization",
        "--quiet",
        "--second",
        "--seed",
        "--tensor-parallel-size",
        "--tokenizer",
        "--wide-many",
        "--wide-mode",
        "--wide-nested",
        "--wide-other",
        "--wide-outer",
        "--wide-pair",
        "--wide-size",
        "--wide-some",
        "--wide-worse",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("--model", {"kind": "value", "type": "str", "default": "some/model", "help": "Name or path."}),
        ("--max-model-len", {"type": "human_readable_int", "optional": True, "default": None}),
        ("--dtype", {"choices": (), "known_values": ("auto", "half", "hidden"), "default": "auto"}),
        ("--quantization", {"aliases": ("-q",), "known_values": ("awq", "gptq"), "optional": True}),
        ("--enforce-eager", {"kind": "bool_optional", "default": False, "optional": True, "group": "ModelConfig"}),
        ("--hf-token", {"kind": "optional_value", "nargs": "?"}),
        ("--tokenizer", {"kind": "value", "type": "str", "optional": True}),
        ("--overrides", {"kind": "json", "default": None}),
        ("--gpu-memory-utilization", {"aliases": ("--memory-share",), "default": 0.92, "type": "float"}),
        ("--block-size", {"choices": (8, 16, 32), "type": "int"}),
        ("--tensor-parallel-size", {"aliases": ("-tp",), "default": 1, "help": "How many."}),
        ("--seed", {"default": 7}),
        ("--level", {"choices": ("low", "high"), "default": "low"}),
        ("--computed", {"default": None, "default_text": "read_the_machine()"}),
        ("--devices", {"choices": ()}),
        ("--quiet", {"kind": "store_true", "default": False}),
        ("--second", {"type": "int"}),
        ("--log-requests", {"kind": "bool_optional", "default": False}),
        ("--names", {"kind": "value", "nargs": "+", "optional": True, "group": "Front"}),
        ("--origins", {"type": "json.loads", "nargs": None, "default": ["*"]}),
        ("--port", {"type": "int", "default": 8000}),
        ("--wide-mode", {"choices": ("auto", "half")}),
        ("--wide-outer", {"choices": ("a", "auto", "b"), "optional": True}),
        ("--wide-pair", {"nargs": "2", "type": "int", "default": [1, 2]}),
        ("--wide-many", {"nargs": "+", "type": "int", "default": []}),
        ("--wide-some", {"nargs": "+", "choices": ("x", "y"), "default": []}),
        ("--wide-nested", {"kind": "json", "type": "optional(json.loads)", "default_text": "Nested()"}),
        ("--wide-other", {"kind": "value", "type": "str"}),
        ("--wide-worse", {"kind": "value", "type": "str"}),
        ("--wide-size", {"type": "human_readable_int", "default": 4}),
    ],
)
def test_option_is_read_as_declared(flags: dict[str, Flag], name: str, expected: dict[str, object]) -> None:
    assert {key: getattr(flags[name], key) for key in expected} == expected


def test_nothing_of_the_package_is_run(tmp_path: Path) -> None:
    root = write_package(tmp_path)
    for file in root.rglob("*.py"):
        file.write_text("raise SystemExit('imported')\n" + file.read_text())
    flags, files = read_flags(root)
    assert "--port" in flags
    assert root / "config" / "kinds.py" in files


def test_options_of_a_release_with_a_script_of_subcommands(tmp_path: Path) -> None:
    scripts = """
        from vllm.entrypoints.openai.cli_args import make_arg_parser
        from vllm.utils import FlexibleArgumentParser


        def main():
            parser = FlexibleArgumentParser()
            subparsers = parser.add_subparsers(required=True)
            serve_parser = subparsers.add_parser("serve")
            serve_parser.add_argument("--config", type=str)
            serve_parser = make_arg_parser(serve_parser)
            chat_parser = subparsers.add_parser("chat")
            chat_parser.add_argument("--url", type=str)
    """
    root = write_package(tmp_path, {"scripts.py": scripts, "entrypoints/cli/serve.py": None})
    flags, _ = read_flags(root)
    assert {"--config", "--port"} <= flags.keys()
    assert "--url" not in flags


def test_options_of_a_release_without_the_command(tmp_path: Path) -> None:
    server = FILES["entrypoints/openai/cli_args.py"].replace(
        "def make_arg_parser(parser):", "def make_arg_parser():\n        parser = argparse.ArgumentParser()"
    )
    root = write_package(tmp_path, {"entrypoints/openai/cli_args.py": server, "entrypoints/cli/serve.py": None})
    assert "--port" in read_flags(root)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine/arg_utils.py": "def broken(:\n"}, "line 1"),
        ({"engine/arg_utils.py": None}, "loop over kwargs.items()"),
        (
            {"entrypoints/openai/cli_args.py": "def make_arg_parser(p):\n    p.add_argument('--port')\n"},
            "no --max-model",
        ),
        ({"entrypoints/cli/serve.py": None, "entrypoints/openai/cli_args.py": None}, "no command line"),
        ({"entrypoints/openai/cli_args.py": "def make_arg_parser(p):\n    p.add_argument(read_name())\n"}, "computed"),
        (
            {
                "entrypoints/openai/cli_args.py": (
                    "def make_arg_parser(p):\n    for x in read_names():\n        p.add_argument(x)\n"
                )
            },
            "loop over read_names()",
        ),
        (
            {"entrypoints/openai/cli_args.py": "def make_arg_parser(p):\n    return make_arg_parser(p)\n"},
            "calls itself",
        ),
    ],
)
def test_sources_that_cannot_be_understood_are_an_error(
    tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(FlagsUnreadableError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read_flags(write_package(tmp_path, changes))


def test_a_missing_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FlagsUnreadableError, match="no command line"):
        read_flags(tmp_path / "vllm")
