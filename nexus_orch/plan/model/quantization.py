"""From a checkpoint's quantization_config to its `Scheme`: one function for each method that vLLM reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.errors import Problem
from nexus_orch.plan.model.formats import (
    FLASHINFER_PADDING,
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
    MARLIN_PADDING,
    MXFP4,
    MXFP4_GROUP,
    MXFP8,
    NF4,
    NVFP4,
    TRITON_PADDING,
    UNQUANTIZED,
    WHOLE_ROW,
    Format,
    ModuleFormat,
    Scheme,
)
from nexus_orch.plan.model.methods import canonical_method, reads
from nexus_orch.plan.model.modules import Modules
from nexus_orch.plan.model.online import online_scheme
from nexus_orch.releases.models import brings_triton_kernels, packs_mxfp4_for_marlin

_GROUP = 128
_HEAD = "lm_head"

_MODELOPT: Mapping[str, Format] = {
    "FP8": FP8_TENSOR,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL,
    "FP8_PB_WO": FP8_BLOCK,
    "FP8_BLOCK_SCALES": FP8_BLOCK,
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "W4A16_NVFP4": NVFP4,
    "W4A8_NVFP4_FP8": NVFP4,
    "MXFP4": MXFP4,
    "W4A8_MXFP4_FP8": MXFP4,
    "MXFP8": MXFP8,
}
"""ModelOpt's algorithms (quantization/modelopt.py of 0.33.0, LINEAR_ALGOS, and those of the exporter)."""


def choose_scheme(
    config: Mapping[str, Any],
    pinned: str | None = None,
    compute_capability: tuple[int, int] | None = None,
    version: str | None = None,
) -> Scheme | Problem:
    """The weight format of a checkpoint, or of a plain one that this release quantizes while loading it.

    Returns a Problem when the method is unknown, or the pinned one is not the checkpoint's.
    """
    found = quantization_config(config)
    if found is None:
        return UNQUANTIZED if pinned is None else online_scheme(pinned, version)
    method = found.get("quant_method")
    if not isinstance(method, str):
        return _unsupported(str(method), "its quantization_config names no quant_method")
    scheme = _from_config(canonical_method(method), found)
    if scheme is None:
        return _unsupported(method, "the planner does not know how large its weights are")
    if config.get("model_type") == "deepseek_v4" and config.get("expert_dtype", "fp4") == "fp4":
        scheme = replace(scheme, rules=(*scheme.rules, ModuleFormat(Modules(("mlp.experts",)), MXFP4)))
    if scheme.method == "mxfp4":
        scheme = replace(scheme, padding=_mxfp4_padding(compute_capability, version))
    if pinned is not None and not reads(pinned, method):
        return _unsupported(pinned, f"the checkpoint is quantized with {method}")
    return scheme


def quantization_config(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the configuration says about quantization, wherever it says it."""
    nested = config.get("text_config")
    for holder in (config, nested if isinstance(nested, Mapping) else {}):
        for key in ("quantization_config", "compression_config"):
            found = holder.get(key)
            if isinstance(found, Mapping) and found:
                return found
    return None


def _from_config(method: str, config: Mapping[str, Any]) -> Scheme | None:
    read = _READERS.get(method)
    return None if read is None else read(config)


def _skipped(config: Mapping[str, Any], *keys: str) -> tuple[ModuleFormat, ...]:
    """The modules that stay unquantized, by the first of these keys that lists some."""
    listed = next((config[key] for key in keys if isinstance(config.get(key), list | tuple) and config[key]), ())
    return (ModuleFormat(Modules.of(listed)),) if listed else ()


def _fp8(config: Mapping[str, Any]) -> Scheme:
    return Scheme("fp8", Format(8, block=_block(config)), _skipped(config, "modules_to_not_convert", "ignored_layers"))


def _fbgemm(config: Mapping[str, Any]) -> Scheme:
    return Scheme("fbgemm_fp8", FP8_CHANNEL, _skipped(config, "modules_to_not_convert"))


def _awq(config: Mapping[str, Any]) -> Scheme:
    stored = _grouped(config, "bits", "w_bit", group="q_group_size")
    return Scheme("awq", replace(stored, zero_points=True), _skipped(config, "modules_to_not_convert"))


def _gptq(config: Mapping[str, Any]) -> Scheme:
    stored = replace(_grouped(config, "bits"), zero_points=True, group_index=True)
    rules = [*_gptq_dynamic(config.get("dynamic"), stored), *_skipped(config, "modules_to_not_convert")]
    return Scheme("gptq", stored, tuple(rules), converts_head=config.get("lm_head") is True)


def _gptq_dynamic(dynamic: object, stored: Format) -> Iterator[ModuleFormat]:
    """GPTQModel's exceptions: "-:REGEX" stays unquantized, "+:REGEX" has widths of its own."""
    if not isinstance(dynamic, Mapping):
        return
    for name, changes in dynamic.items():
        expression = str(name).removeprefix("-:").removeprefix("+:")
        other = changes if isinstance(changes, Mapping) else {}
        bits, group = _number(other, "bits", int(stored.bits)), _number(other, "group_size", stored.group or -1)
        kept = None if str(name).startswith("-:") else replace(stored, bits=bits, group=group if group > 0 else None)
        yield ModuleFormat(Modules((f"re:{expression}",)), kept)


def _auto_round(config: Mapping[str, Any]) -> Scheme:
    """AutoRound, packed as the file says: like GPTQ, like AWQ, or in the formats of compressed-tensors."""
    packing, kind = str(config.get("packing_format", "")), str(config.get("data_type", "int"))
    bits = _number(config, "bits", 4)
    size = config.get("group_size")
    if isinstance(size, list | tuple):
        stored = Format(bits, block=_block(config, "group_size"))
    elif "mx_fp" in kind:
        stored = MXFP4 if bits == 4 else MXFP8
    elif kind.startswith("nv_fp"):
        stored = NVFP4
    else:
        stored = replace(_grouped(config, "bits"), zero_points=True, group_index="awq" not in packing)
    return Scheme(
        "auto-round",
        stored,
        (*_auto_round_exceptions(config, stored), *_skipped(config, "modules_to_not_convert")),
    )


def _auto_round_exceptions(config: Mapping[str, Any], stored: Format) -> Iterator[ModuleFormat]:
    """`extra_config` gives single modules widths of their own; 16 bits and more mean that they are left alone."""
    extra = config.get("extra_config")
    for name, changes in (extra if isinstance(extra, Mapping) else {}).items():
        if not isinstance(changes, Mapping):
            continue
        bits, group = _number(changes, "bits", int(stored.bits)), _number(changes, "group_size", stored.group or -1)
        kept = None if bits >= 16 else replace(stored, bits=bits, group=group if group > 0 else WHOLE_ROW)
        pattern = f"re:{name}" if any(sign in str(name) for sign in "*^$\\") else str(name)
        yield ModuleFormat(Modules((pattern,)), kept)


def _modelopt(config: Mapping[str, Any]) -> Scheme | None:
    """NVIDIA ModelOpt, in config.json or as its own hf_quant_config.json writes it (`quantization`)."""
    nested = config.get("quantization")
    inner: Mapping[str, Any] = nested if isinstance(nested, Mapping) else config
    algorithm = str(inner.get("quant_algo") or "").upper()
    skipped = _skipped(inner, "ignore", "exclude_modules")
    head = not any(rule.modules.names(f"{_HEAD}.weight") for rule in skipped)
    kv = _modelopt_kv(inner, config)
    if algorithm == "MIXED_PRECISION":
        return replace(_mixed(inner, skipped), converts_head=head, kv_cache_dtype=kv)
    stored = _MODELOPT.get(algorithm)
    if stored is None:
        return None
    group = _number(inner, "group_size", stored.group or 0)
    if stored is NVFP4 and group > 0:
        stored = replace(stored, group=group)
    return Scheme("modelopt", stored, skipped, converts_head=head, kv_cache_dtype=kv)


def _mixed(inner: Mapping[str, Any], skipped: tuple[ModuleFormat, ...]) -> Scheme:
    """A format for each layer that `quantized_layers` names. Where it is missing, the blocks have the formats that
    NVIDIA's own mixed checkpoints have."""
    layers = inner.get("quantized_layers")
    if not isinstance(layers, Mapping) or not layers:
        note = (
            "the checkpoint mixes formats and config.json does not say which layer has which: feed-forward blocks are "
            "counted in NVFP4, attention in FP8"
        )
        attention = Modules(("self_attn", "linear_attn", "in_proj", "out_proj"))
        return Scheme("modelopt", NVFP4, (*skipped, ModuleFormat(attention, FP8_TENSOR)), notes=(note,), is_guess=True)
    by_format: dict[Format, list[str]] = {}
    for name, entry in layers.items():
        algorithm = str(entry.get("quant_algo", "") if isinstance(entry, Mapping) else entry).upper()
        if algorithm in _MODELOPT:
            by_format.setdefault(_MODELOPT[algorithm], []).append(str(name))
    rules = (ModuleFormat(Modules(tuple(names)), stored) for stored, names in by_format.items())
    return Scheme("modelopt", Format(), (*skipped, *rules, ModuleFormat(Modules(("re:.*",)))))


def _modelopt_kv(*holders: Mapping[str, Any]) -> str | None:
    """FP8 or another type of keys and values, by its name or as a scheme (vllm/utils/torch_utils.py of 0.33.0)."""
    for holder in holders:
        scheme = holder.get("kv_cache_scheme") or holder.get("kv_cache_quant_algo")
        if scheme:
            return _kv_type(scheme)
    return None


def _kv_type(scheme: object) -> str | None:
    if isinstance(scheme, Mapping):
        return "fp8" if scheme.get("num_bits") == 8 and scheme.get("type", "float") == "float" else None
    return "fp8" if str(scheme).lower() == "fp8" else None


def _compressed_tensors(config: Mapping[str, Any]) -> Scheme | None:
    """Groups of modules, each with a format of its own; "Linear" means all that no other group names."""
    groups = config.get("config_groups")
    rules: list[ModuleFormat] = list(_skipped(config, "ignore"))
    stored: Format | None = None
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            continue
        read = _compressed_weights(weights)
        targets = [t for t in group.get("targets") or ("Linear",) if isinstance(t, str)]
        named = [target for target in targets if target not in ("Linear", "FusedMoE")]
        if len(named) < len(targets) or not named:
            stored = stored or read
        if named:
            rules.append(ModuleFormat(Modules(tuple(named)), read))
    if stored is None and not any(rule.format for rule in rules):
        return None
    if stored is None:  # no group for all: what none of them names stays as it is
        rules.append(ModuleFormat(Modules(("re:.*",))))
    scheme = Scheme("compressed-tensors", stored or Format(), tuple(rules))
    kv = config.get("kv_cache_scheme")
    return replace(scheme, kv_cache_dtype=_kv_type(kv) if kv else None)


def _compressed_weights(weights: Mapping[str, Any]) -> Format:
    bits, strategy = _number(weights, "num_bits", 8), str(weights.get("strategy", "channel"))
    if strategy == "tensor_group":  # NVFP4: the scales of the groups in FP8, one more for the tensor
        return Format(bits, _number(weights, "group_size", 16), scale_bytes=1)
    if strategy == "group":
        size = _number(weights, "group_size", _GROUP)
        if weights.get("type") == "float":  # MXFP4 and MXFP8: a shared exponent for each group
            return Format(bits, size, scale_bytes=1)
        return Format(bits, size, scale_bytes=2, zero_points=weights.get("symmetric") is False)
    if strategy == "block":
        return Format(bits, block=_block(weights, "block_structure"))
    return Format(bits, None if strategy == "tensor" else WHOLE_ROW)


def _mxfp4(config: Mapping[str, Any]) -> Scheme:
    """GPT-OSS: nothing but the experts, whatever the list of exceptions says."""
    return Scheme("mxfp4", MXFP4, experts_only=True)


def _mxfp4_padding(capability: tuple[int, int] | None, version: str | None) -> tuple[int, int]:
    """By the kernels that take the experts: FlashInfer's on Blackwell of the data center, Triton's on Hopper where they
    are there, else Marlin's (quantization/mxfp4.py: get_mxfp4_backend of 0.10.2 to 0.18.1)."""
    if capability is None:
        return TRITON_PADDING
    if capability[0] == 10:
        return FLASHINFER_PADDING
    has_triton = version is None or (brings_triton_kernels(version) and not packs_mxfp4_for_marlin(version))
    return TRITON_PADDING if capability[0] == 9 and has_triton else MARLIN_PADDING


def _bitsandbytes(config: Mapping[str, Any]) -> Scheme:
    stored = FP8_CHANNEL if config.get("load_in_8bit") else NF4
    return Scheme("bitsandbytes", stored, _skipped(config, "llm_int8_skip_modules"))


def _torchao(config: Mapping[str, Any]) -> Scheme | None:
    """torchao: the kind of the weights by the name of its configuration (torchao/quantization/quant_api.py)."""
    kind = config.get("quant_type")
    entry = kind.get("default", kind) if isinstance(kind, Mapping) else kind
    name = str(entry.get("_type", "") if isinstance(entry, Mapping) else entry)
    data = entry.get("_data") if isinstance(entry, Mapping) else None
    settings: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    rules = list(_skipped(config, "modules_to_not_convert"))
    by_module = settings.get("module_fqn_to_config")
    if isinstance(by_module, Mapping):
        for module, other in by_module.items():
            if module != "_default":
                rules.append(ModuleFormat(Modules((str(module),)), _torchao_format(other)))
        stored = _torchao_format(by_module.get("_default"))
    else:
        stored = _torchao_format({"_type": name, "_data": settings})
    if stored is None and not any(rule.format for rule in rules):
        return None
    if stored is None:
        rules.append(ModuleFormat(Modules(("re:.*",))))
    return Scheme("torchao", stored or Format(), tuple(rules))


_TORCHAO = (
    ("nvfp4", NVFP4),
    ("float8", FP8_CHANNEL),
    ("fp8", FP8_CHANNEL),
    ("int8weight", FP8_CHANNEL),
    ("int8dynamic", FP8_CHANNEL),
    ("mxfp4", MXFP4),
    ("mx", MXFP8),
)
"""What the names of torchao's configurations hold, such as Float8DynamicActivationFloat8WeightConfig."""


def _torchao_format(entry: object) -> Format | None:
    if not isinstance(entry, Mapping):
        return None
    name = str(entry.get("_type", "")).lower().replace("_", "")
    data = entry.get("_data")
    settings: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    integers = Format(4, _number(settings, "group_size", _GROUP), scale_bytes=2, zero_points="dynamic" not in name)
    return next((stored for sign, stored in (("int4weight", integers), *_TORCHAO) if sign in name), None)


def _quark(config: Mapping[str, Any]) -> Scheme | None:
    """AMD Quark: a global format, and others for the modules of layer_quant_config."""
    rules = list(_skipped(config, "exclude"))
    layers = config.get("layer_quant_config")
    for name, other in (layers if isinstance(layers, Mapping) else {}).items():
        found = _quark_format(other)
        if found is not None:
            rules.append(ModuleFormat(Modules((str(name),)), found))
    stored = _quark_format(config.get("global_quant_config"))
    if stored is None:
        return None
    return Scheme("quark", stored, tuple(rules))


def _quark_format(entry: object) -> Format | None:
    weights = entry.get("weight") if isinstance(entry, Mapping) else None
    if isinstance(weights, list | tuple):  # two levels, the first is the format
        weights = weights[0] if weights else None
    if not isinstance(weights, Mapping):
        return None
    dtype, scheme = str(weights.get("dtype", "")).lower(), str(weights.get("qscheme", "per_tensor"))
    if dtype in ("fp4", "mxfp4"):
        return MXFP4
    bits = 4 if "4" in dtype and not dtype.startswith("fp8") else 8
    if scheme == "per_group":
        return Format(bits, _number(weights, "group_size", MXFP4_GROUP), scale_bytes=1 if "fp" in dtype else 2)
    return Format(bits, None if scheme == "per_tensor" else WHOLE_ROW)


def _hqq(config: Mapping[str, Any]) -> Scheme:
    settings = config.get("quant_config")
    weights = settings.get("weight_quant_params") if isinstance(settings, Mapping) else None
    inner: Mapping[str, Any] = weights if isinstance(weights, Mapping) else {}
    stored = Format(_number(inner, "nbits", 4), _number(inner, "group_size", 64), scale_bytes=4)
    return Scheme("hqq", stored, _skipped(config, "skip_modules"))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Scheme | None]] = {
    "fp8": _fp8,
    "deepseek_v4_fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "awq": _awq,
    "gptq": _gptq,
    "auto-round": _auto_round,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "torchao": _torchao,
    "quark": _quark,
    "hqq": _hqq,
}


def _grouped(config: Mapping[str, Any], *bits: str, group: str = "") -> Format:
    """Integers with a 16-bit scale for each group of inputs."""
    width = next((_number(config, key, 4) for key in bits if key in config), 4)
    size = _number(config, "group_size", _number(config, group, _GROUP))
    return Format(width, size if size > 0 else WHOLE_ROW, scale_bytes=2)


def _block(config: Mapping[str, Any], key: str = "weight_block_size") -> tuple[int, int] | None:
    block = config.get(key)
    if isinstance(block, list | tuple) and len(block) == 2 and all(isinstance(v, int) and v > 0 for v in block):
        return int(block[0]), int(block[1])
    return None


def _number(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value != 0 else default


def _unsupported(method: str, why: str) -> Problem:
    return Problem(
        f'quantization "{method}" cannot be planned: {why}',
        key="model.quantization",
        value=method,
        remedy="leave model.quantization unset, or choose a checkpoint in another format",
        cause="unsupported_quantization",
    )
