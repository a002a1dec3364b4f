"""Parse command lines with the real parser of the vLLM that runs this file; started by tests, never imported.

Standard input is a JSON list of argument lists, each from `serve` on. The answer is one line on standard output: for
each option the name of its value, the defaults, and for each list the values that differ from them, or the error.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def main() -> None:
    lines = json.loads(sys.stdin.read())
    sys.argv = ["vllm", "serve"]
    with contextlib.redirect_stdout(sys.stderr):
        parser, command = make_parser()
        defaults = vars(parser.parse_args(["serve"]))
        answers = [parse(parser, command, line, defaults) for line in lines]
    names = {name: action.dest for action in options_of(parser) for name in action.option_strings}
    content = {"names": names, "defaults": defaults, "answers": answers}
    sys.stdout.write("\nRESULT" + json.dumps(content, default=str) + "\n")


def make_parser() -> tuple[Any, Any]:
    """As vllm/entrypoints/cli/main.py makes it, with one command."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser, command = FlexibleArgumentParser(), ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    return parser, command


def options_of(parser: Any) -> list[Any]:
    (commands,) = (action for action in parser._actions if action.dest == "subparser")
    return [action for action in commands.choices["serve"]._actions if action.option_strings]


def parse(parser: Any, command: Any, line: list[str], defaults: dict[str, Any]) -> dict[str, Any]:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            values = parser.parse_args(line)
            command.validate(values)
    except SystemExit:
        return {"error": errors.getvalue().strip().splitlines()[-1]}
    except (ValueError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"values": {name: value for name, value in vars(values).items() if value != defaults.get(name)}}


if __name__ == "__main__":
    main()
