"""How the command line of `vllm serve` is read, beyond the options that the catalogue lists."""

from __future__ import annotations

from nexus_orch.releases.fact import Fact

takes_json_keys = Fact(
    "an option that takes JSON takes its keys one by one, with dots",
    since="0.9.0",
    source="utils.py: create_nested_dict",
)
appends_json_keys = Fact(
    "such a key ends with + to append to a list",
    since="0.9.2",
    source='utils/__init__.py: endswith("+")',
)
config_says_no = Fact(
    "a switch that is false in the file of --config is the --no- form of the option; before, it says nothing",
    since="0.28.0",
    source="utils/argparse_utils.py: load_config_file",
)
