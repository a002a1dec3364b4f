"""Small packages called `vllm`, written for the tests, that declare options in the ways that releases of vLLM do."""

from __future__ import annotations

import textwrap
from pathlib import Path

OPTIONS = """
    import argparse
    import json
    import sys
    from dataclasses import MISSING, fields
    from typing import TYPE_CHECKING, Literal, get_args

    from vllm.config import CacheConfig, ModelConfig, Wide
    from vllm.config.kinds import EXTRA_CHOICES, LEVELS

    if TYPE_CHECKING:
        from vllm.nowhere import Absent
    else:
        Absent = str


    def human_readable_int(value):
        return int(value)


    def literal_to_kwargs(hints):
        return {"metavar": sorted(hints)} if str in hints else {"choices": sorted(hints)}


    def get_kwargs(cls):
        kwargs = {}
        for field in fields(cls):
            name = field.name
            readable = {"max_model_len", "size"}
            if name in readable:
                kwargs[name]["type"] = human_readable_int
            elif kwargs == {bool, str, type(None)}:
                pass
        return kwargs


    class EngineArgs:
        seed: int = ModelConfig.seed
        level: str = LEVELS.LOW

        @staticmethod
        def add_cli_args(parser):
            model_kwargs = get_kwargs(ModelConfig)
            model_group = parser.add_argument_group(title="ModelConfig", description=ModelConfig.__doc__)
            if not ("serve" in sys.argv[1:] and "--help" in sys.argv[1:]):
                model_group.add_argument("--model", **model_kwargs["model"])
            model_group.add_argument("--max-model-len", **model_kwargs["max_model_len"])
            model_group.add_argument("--dtype", **model_kwargs["dtype"])
            model_group.add_argument("--quantization", "-q", **model_kwargs["quantization"])
            model_group.add_argument("--enforce-eager", **model_kwargs["enforce_eager"])
            model_group.add_argument("--hf-token", **model_kwargs["hf_token"])
            model_group.add_argument("--tokenizer", **model_kwargs["tokenizer"])
            model_group.add_argument("--overrides", **{**model_kwargs["overrides"], "default": None})
            wide_kwargs = get_kwargs(Wide)
            wide_kwargs["mode"]["choices"].remove("hidden")
            wide_kwargs["nested"]["type"] = optional(json.loads)
            for key, value in wide_kwargs.items():
                model_group.add_argument(f"--wide-{key.replace('_', '-')}", **value)
            cache_kwargs = get_kwargs(CacheConfig)
            cache_group = parser.add_argument_group("CacheConfig")
            cache_group.add_argument(
                "--gpu-memory-utilization", "--memory-share", **cache_kwargs["gpu_memory_utilization"]
            )
            cache_group.add_argument("--block-size", choices=[8 * i for i in (1, 2)] + EXTRA_CHOICES, type=int)
            parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1, help="How many. Of them.")
            parser.add_argument("--seed", type=int, default=EngineArgs.seed)
            parser.add_argument("--level", choices=[level.value for level in LEVELS], default=EngineArgs.level)
            parser.add_argument("--computed", default=read_the_machine())
            parser.add_argument("--devices", choices=["auto"] + read_the_machine())
            parser.add_argument("--quiet", action="store_true")
            for name, kind in [("--first", str), ("--second", int)]:
                parser.add_argument(name, type=kind, default=None)
            return parser


    class AsyncEngineArgs(EngineArgs):
        @staticmethod
        def add_cli_args(parser, async_args_only=False):
            load_plugins()
            if not async_args_only:
                parser = EngineArgs.add_cli_args(parser)
            parser.add_argument("--log-requests", action=argparse.BooleanOptionalAction, default=False)
            platform().adjust(parser)
            return parser
"""

FRONT = """
    import argparse
    import json
    from dataclasses import dataclass, field

    from vllm.engine.arg_utils import AsyncEngineArgs
    from ...config.kinds import PORT


    class NameAction(argparse.Action):
        pass


    @dataclass
    class BaseFrontArgs:
        names: list[str] | None = None

        @classmethod
        def _adjust(cls, kwargs):
            kwargs["names"]["action"] = NameAction
            return kwargs

        @classmethod
        def add_cli_args(cls, parser):
            from vllm.engine.arg_utils import get_kwargs

            kwargs = cls._adjust(get_kwargs(cls))
            group = parser.add_argument_group(title=cls.__name__.replace("Args", ""))
            for key, value in kwargs.items():
                extra = value.pop("flags", [])
                group.add_argument(*extra, f"--{key.replace('_', '-')}", **value)
            return parser


    @dataclass
    class FrontArgs(BaseFrontArgs):
        host: str | None = None
        port: int = PORT
        origins: list[str] = field(default_factory=lambda: ["*"])

        @classmethod
        def _adjust(cls, kwargs):
            kwargs = super()._adjust(kwargs)
            kwargs["origins"]["type"] = json.loads
            del kwargs["origins"]["nargs"]
            return kwargs


    def make_arg_parser(parser):
        parser.add_argument("model_tag", type=str, nargs="?")
        parser = FrontArgs.add_cli_args(parser)
        return AsyncEngineArgs.add_cli_args(parser)
"""

SERVE = """
    from vllm.entrypoints.openai.cli_args import make_arg_parser


    class ServeSubcommand:
        def subparser_init(self, subparsers):
            serve_parser = subparsers.add_parser("serve", help="Serve.")
            return make_arg_parser(serve_parser)
"""

CONFIG = """
    from dataclasses import field
    from typing import Annotated, Any, Literal, Optional, Union

    from pydantic import Field
    from pydantic.dataclasses import dataclass

    from .kinds import *
    from vllm.config.kinds import Kind as Renamed

    Inner = Literal["b", "a"]
    Outer = Union[Literal["auto", Inner], None]


    @dataclass
    class Nested:
        depth: int = 0


    @config
    class ModelConfig:
        \"\"\"The model.\"\"\"

        version: ClassVar[int] = 3
        model: str = "some/model"
        \"\"\"Name or path. More of it.\"\"\"
        max_model_len: Optional[int] = None
        dtype: Kind | str = "auto"
        quantization: Annotated[str | None, "x"] = None
        enforce_eager: bool | None = False
        hf_token: bool | str | None = None
        tokenizer: "str | None" = None
        overrides: dict[str, Any] = field(default_factory=dict)
        seed: int = 7


    @config(strict=True)
    class CacheConfig:
        gpu_memory_utilization: float = Field(default=0.92, gt=0, le=1)


    @dataclass
    class Wide:
        mode: Renamed = "auto"
        outer: Outer = None
        pair: tuple[int, int] = (1, 2)
        many: list[int] = field(default_factory=list)
        some: set[Literal["x", "y"]] = Field(default_factory=set)
        nested: Nested = Field(default_factory=Nested)
        other: Unresolvable = None
        worse: "no Python at all" = None
        size: int = 4
"""

KINDS = """
    import enum
    from typing import Literal

    PORT = 8000
    EXTRA_CHOICES = [32]
    Kind = Literal["half", "auto", "hidden"]


    class LEVELS(enum.Enum):
        LOW = "low"
        HIGH = "high"
"""

QUANTIZATION = """
    from typing import Literal

    QuantizationMethods = Literal["awq", "gptq"]
"""

FILES = {
    "__init__.py": "",
    "_version.py": "__version__ = version = '0.32.0'\n",
    "engine/__init__.py": "",
    "engine/arg_utils.py": OPTIONS,
    "config/__init__.py": CONFIG,
    "config/kinds.py": KINDS,
    "entrypoints/__init__.py": "",
    "entrypoints/openai/__init__.py": "",
    "entrypoints/openai/cli_args.py": FRONT,
    "entrypoints/cli/__init__.py": "",
    "entrypoints/cli/main.py": "",
    "entrypoints/cli/serve.py": SERVE,
    "model_executor/layers/quantization/__init__.py": QUANTIZATION,
}


def write_package(folder: Path, changes: dict[str, str | None] | None = None) -> Path:
    """The package under `folder`, with some files replaced, added or (None) left out; its root."""
    root = folder / "vllm"
    for name, text in {**FILES, **(changes or {})}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


def write_metadata(root: Path, name: str, version: str, *, record: bool = True, folder: str | None = None) -> None:
    """The metadata of a distribution beside the package, with a record of its files unless told otherwise."""
    info = root.parent / f"{folder or name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText\n")
    if record:
        (info / "RECORD").write_text("vllm/__init__.py,sha256=x,0\nvllm/engine/arg_utils.py,sha256=x,1\n")
