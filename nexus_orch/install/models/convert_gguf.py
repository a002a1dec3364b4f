"""Convert a GGUF file into a folder that vLLM serves: safetensors in float16, tokenizer and chat template.

Run by the engine's own python, in which nexus_orch is not installed:
    python -I convert_gguf.py --gguf FILE --tools DIR --out DIR --versions FILE
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

LIBRARIES = ("transformers", "torch", "gguf", "accelerate", "safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True, help="the file to convert")
    parser.add_argument("--tools", type=Path, required=True, help="a folder with the packages gguf and accelerate")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write; it must not exist")
    parser.add_argument("--versions", type=Path, required=True, help="a JSON file to write: what did the conversion")
    args = parser.parse_args()
    sys.path.append(str(args.tools))  # at the end: where the engine has a package itself, its own is used
    convert(args.gguf, args.out)
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    args.versions.write_text(json.dumps(versions), encoding="utf-8")


def convert(gguf: Path, out: Path) -> None:
    """Read, cast, write. Raises ValueError when a weight did not come out as a plain float16 tensor."""
    # By name, and only now: they are packages of the engine, and the folder of tools must be on the path before.
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float16, **ask_unpacked(transformers)
    )
    model = model.to(torch.float16)
    packed = [name for name, tensor in model.state_dict().items() if tensor.dtype is not torch.float16]
    if packed:
        raise ValueError(f"{len(packed)} tensors were not converted to float16, for example {packed[0]}")
    # What is written is a plain model: transformers refuses to save it while it says that it is quantized.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(str(out), safe_serialization=True)
    transformers.AutoTokenizer.from_pretrained(**source).save_pretrained(str(out))


def ask_unpacked(transformers: Any) -> dict[str, Any]:
    """Ask for plain weights: transformers 5.19 leaves GGUF weights packed where it has kernels for them, and older
    releases (without GgufConfig) always unpack them."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


if __name__ == "__main__":
    main()
