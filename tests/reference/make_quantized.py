#!/usr/bin/env python3
"""Build tiny MLX-quantized Qwen3.5 / Qwen3-VL checkpoints and their ground truth.

A random Hugging Face checkpoint is made as `make_fixtures.py` makes one (that file must lie beside this one, or its
folder be named by MAKE_FIXTURES), converted and quantized by the converters of mlx-lm or mlx-vlm themselves, and read
back by a decoder of the packed codes written here from the format (numpy, float64), which is checked against
`mx.dequantize`.  Reference results come from `transformers` on the decoded weights, in float64; mlx-lm or mlx-vlm run
on the same checkpoint in float32, with the codes left packed and with the weights decoded, is compared with them.

Every fixture directory holds

  config.json, model.safetensors, model.safetensors.index.json   as the converter wrote them
  reference.safetensors   as in make_fixtures.py; gradients of the parameters that are not quantized only;
                          `decode.<module>`: first and last row of each decoded matrix (of expert 0 and of the last)
  lora.safetensors        as in make_fixtures.py
  mlx.safetensors         losses and adapter gradients of mlx-lm / mlx-vlm in float32, with the codes left packed
  tolerances.json         deviations: transformers float32, and mlx both ways, from transformers float64

    python make_quantized.py OUTPUT_DIR --seed 11 [--dims main|holdout] [--only NAME ...]
"""

import argparse
import importlib
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).resolve().parent
for folder in (HERE, os.environ.get("MAKE_FIXTURES"), os.path.dirname(HERE)):
    if folder and (Path(folder) / "make_fixtures.py").exists():
        sys.path.insert(0, str(folder))
        break

import make_fixtures as mf
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
import transformers
from converters import run_converter
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForCausalLM,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

mx.set_default_device(mx.cpu)
# Inputs are drawn until two single-precision implementations are this close to the float64 reference. The measure is
# the largest deviation over the largest magnitude; for losses it is the absolute deviation.
CONDITION = {"logits": 1e-5, "hidden": 1e-5, "grad": mf.GRADIENT_CONDITION}
LORA_CONDITION = {"logits": 1e-5, "grad": 2e-5, "final": 5e-5}
MLX_CONDITION = {"logits": 2.5e-5, "loss": 2e-6, "grad": 5e-5}
MODES = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}

# --------------------------------------------------------------------------------------------
# Models.  Inner dimensions are multiples of the group sizes, except where a fixture says otherwise.
# --------------------------------------------------------------------------------------------

DIMS = {
    "main": dict(
        hidden=128, vocab=256, heads=4, kv=2, head_dim=32, mrope=[2, 1, 1], key_heads=2, value_heads=4, key_dim=16,
        value_dim=32, odd_value_dim=24, ffn=192, layers=3, interval=3, few_layers=2, few_interval=2,
        experts=8, top=2, moe=64, shared=64, moe_hidden=64, group=64, mixed="mixed_4_6",
        vl_hidden=64, vl_ffn=128, vl_heads=4, vl_kv=2, vl_dim=32, vl_mrope=[8, 4, 4], deepstack=[0, 1],
    ),
    "holdout": dict(
        hidden=192, vocab=288, heads=3, kv=1, head_dim=64, mrope=[4, 2, 2], key_heads=1, value_heads=4, key_dim=32,
        value_dim=32, odd_value_dim=24, ffn=128, layers=3, interval=2, few_layers=2, few_interval=2,
        experts=6, top=3, moe=32, shared=96, moe_hidden=128, group=32, mixed="mixed_3_4",
        vl_hidden=64, vl_ffn=192, vl_heads=6, vl_kv=3, vl_dim=16, vl_mrope=[4, 2, 2], deepstack=[0, 2],
    ),
}


def text(d, layers, interval, tied, **extra):
    return dict(
        vocab_size=d["vocab"], hidden_size=d["hidden"], num_hidden_layers=layers, num_attention_heads=d["heads"],
        num_key_value_heads=d["kv"], head_dim=d["head_dim"], linear_num_key_heads=d["key_heads"],
        linear_num_value_heads=d["value_heads"], linear_key_head_dim=d["key_dim"],
        linear_value_head_dim=extra.pop("value_dim", d["value_dim"]), linear_conv_kernel_dim=4,
        rope_parameters=mf.rope(d["mrope"]), full_attention_interval=interval, max_position_embeddings=4096,
        tie_word_embeddings=tied, **extra,
    )


def vision(d, **extra):
    return dict(mf.VISION, out_hidden_size=d["hidden"], **extra)


def dense(d, tied=False, value_dim=None, layers=None, interval=None):
    extra = {"value_dim": value_dim} if value_dim else {}
    body = text(d, layers or d["layers"], interval or d["interval"], tied, intermediate_size=d["ffn"], **extra)
    config = Qwen3_5Config(text_config=body, vision_config=vision(d), tie_word_embeddings=tied, **mf.SPECIAL)
    return Qwen3_5ForConditionalGeneration, config


def moe(d):
    d = dict(d, hidden=d["moe_hidden"])
    body = text(
        d, d["few_layers"], d["few_interval"], False, num_experts=d["experts"], num_experts_per_tok=d["top"],
        moe_intermediate_size=d["moe"], shared_expert_intermediate_size=d["shared"],
    )
    return Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig(text_config=body, vision_config=vision(d), **mf.SPECIAL)


def qwen3_vl(d):
    d = dict(d, hidden=d["vl_hidden"])
    body = dict(
        vocab_size=d["vocab"], hidden_size=d["hidden"], intermediate_size=d["vl_ffn"], num_hidden_layers=3,
        num_attention_heads=d["vl_heads"], num_key_value_heads=d["vl_kv"], head_dim=d["vl_dim"],
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": d["vl_mrope"], "mrope_interleaved": True},
    )
    config = Qwen3VLConfig(
        text_config=body, vision_config=vision(d, depth=3, deepstack_visual_indexes=d["deepstack"]), **mf.SPECIAL
    )
    return Qwen3VLForConditionalGeneration, config


def few(d, tied=False):
    return dense(d, tied=tied, layers=d["few_layers"], interval=d["few_interval"])


ENTRIES = {
    "language_model.model.layers.0.linear_attn.out_proj": False,
    "language_model.model.layers.1.self_attn.q_proj": True,
}

# keep: the parts of the checkpoint that the reference model has.  convert: arguments of the converter.
FIXTURES = {
    "q8-dense": dict(build=lambda d: dense(d, tied=True), tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=8, q_group_size=d["group"])),
    # In the main set the inner dimension of `out_proj` is no multiple of the group: the converter leaves it dense.
    "q4-dense": dict(build=lambda d: dense(d, value_dim=d["odd_value_dim"]), tool="mlx-lm", keep="text", convert=lambda d: {}),
    # Without a group size on the command line the overrides of the recipe say `"group_size": null`.
    "q4-mixed": dict(build=lambda d: dense(d), tool="mlx-lm", keep="text", convert=lambda d: dict(quant_predicate=d["mixed"])),
    "mxfp4-dense": dict(build=lambda d: dense(d), tool="mlx-lm", keep="text", convert=lambda d: dict(q_mode="mxfp4")),
    "nvfp4-dense": dict(build=lambda d: dense(d, tied=True), tool="mlx-lm", keep="text", convert=lambda d: dict(q_mode="nvfp4")),
    "mxfp8-dense": dict(
        build=lambda d: dense(d, layers=d["few_layers"], interval=d["few_interval"]), tool="mlx-vlm", keep="text",
        convert=lambda d: dict(q_mode="mxfp8", q_group_size=None, q_bits=None),
    ),
    "q8-moe": dict(build=moe, tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=8, q_group_size=d["group"])),
    # Top-level mode and overrides differ: the router's `{"group_size": 64, "bits": 8}` names no mode and means affine.
    "mxfp4-moe": dict(build=moe, tool="mlx-lm", keep="text", convert=lambda d: dict(q_mode="mxfp4")),
    "q4-vlm": dict(
        build=lambda d: dense(d, layers=d["few_layers"], interval=d["few_interval"]), tool="mlx-vlm", keep="all",
        convert=lambda d: dict(q_bits=4, q_group_size=d["group"]),
    ),
    "q8-qwen3-vl": dict(build=qwen3_vl, tool="mlx-vlm", keep="all", convert=lambda d: dict(q_bits=8, q_group_size=d["group"])),
    # The other widths and groups. With a group of 128 the inner dimension of `down_proj` is no multiple: it stays dense.
    "q2-dense": dict(build=lambda d: few(d), tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=2, q_group_size=32)),
    "q3-dense": dict(build=lambda d: few(d), tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=3, q_group_size=128)),
    # Loaders take `true` (as the top level says) and `false` (dense) for a module, which no converter writes.
    "q5-entries": dict(
        build=lambda d: few(d, tied=True), tool="mlx-lm", keep="text", entries=ENTRIES,
        convert=lambda d: dict(q_bits=5, q_group_size=64, quant_predicate=lambda path, _: ENTRIES.get(path, True)),
    ),
    # Not stored: for `cargo xtask parity` by hand.
    "q3-groups": dict(build=lambda d: few(d, tied=True), tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=3, q_group_size=32)),
    "q5-groups": dict(build=lambda d: few(d), tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=5, q_group_size=128)),
    "q6-head": dict(build=lambda d: few(d), tool="mlx-lm", keep="text", convert=lambda d: dict(q_bits=6, q_group_size=32)),
    "mxfp8-head": dict(build=lambda d: few(d), tool="mlx-lm", keep="text", convert=lambda d: dict(q_mode="mxfp8")),
}


def lora_targets(name, config):
    prefix = "model.language_model.layers.{}." if FIXTURES[name]["keep"] == "all" else "model.layers.{}."
    at = lambda i, suffix: prefix.format(i) + suffix
    body = config.get_text_config()
    kinds = getattr(body, "layer_types", None) or ["full_attention"] * body.num_hidden_layers
    full = max(i for i, kind in enumerate(kinds) if kind == "full_attention")
    out = [(at(full, "self_attn.q_proj"), "linear"), (at(full, "self_attn.v_proj"), "linear")]
    if name != "q8-qwen3-vl":
        out += [(at(0, "linear_attn." + m), "linear") for m in ("in_proj_qkv", "in_proj_a", "out_proj")]
    if name.endswith("-moe"):
        out += [(at(0, "mlp.shared_expert.down_proj"), "linear")]
        out += [(at(full, f"mlp.experts.{m}_proj"), f"expert_{m}") for m in ("gate", "up", "down")]
    else:
        out += [(at(0, "mlp.gate_proj"), "linear"), (at(full, "mlp.down_proj"), "linear")]
    if name.endswith("-head"):
        out += [("lm_head", "linear")]
    if FIXTURES[name]["keep"] == "all":
        out += [("model.visual.blocks.0.attn.qkv", "linear"), ("model.visual.merger.linear_fc1", "linear")]
    return out


# --------------------------------------------------------------------------------------------
# A decoder of the packed formats, from their description
# --------------------------------------------------------------------------------------------

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def e4m3(code):
    code = code.astype(np.int64)
    sign, exponent, fraction = code >> 7, (code >> 3) & 15, code & 7
    value = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7))
    return np.where(sign == 1, -value, value)


def unpack(words, bits):
    """Each row is one little-endian stream of `bits`-wide codes, whatever the width."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    stream = stream.reshape(*words.shape[:-1], -1, bits).astype(np.int64)
    return stream @ (1 << np.arange(bits))


def decode(part, group_size, bits, mode):
    codes = unpack(part["weight"], bits)
    grouped = codes.reshape(*codes.shape[:-1], -1, group_size)
    scales = part["scales"]
    if mode == "affine":
        value = scales[..., None] * grouped + part["biases"][..., None]
    else:
        scale = e4m3(scales) if mode == "nvfp4" else 2.0 ** (scales.astype(np.float64) - 127)
        value = scale[..., None] * (E2M1[grouped] if bits == 4 else e4m3(grouped))
    return value.reshape(codes.shape)


def read_checkpoint(path):
    """Tensors as numpy: bf16 widened to float64, packed words as uint32; and the dtypes as stored."""
    tensors, dtypes = {}, {}
    with safe_open(path / "model.safetensors", "pt") as f:
        assert f.metadata() == {"format": "mlx"}, f.metadata()
        for key in f.keys():
            t = f.get_tensor(key)
            dtypes[key] = str(t.dtype).removeprefix("torch.")
            tensors[key] = t.double().numpy() if t.is_floating_point() else t.numpy()
    return tensors, dtypes


def module_settings(quantization, module, tensors):
    """What the loaders take: the entry of the module, else the top level; checked against the shapes."""
    entry = quantization.get(module)
    assert entry is not False, module
    if entry is None or entry is True:
        mode = quantization.get("mode", "affine")
        group, bits = quantization["group_size"], quantization["bits"]
    else:
        mode = entry.get("mode", "affine")
        default = MODES.get(mode, (64, 4))
        group, bits = entry.get("group_size") or default[0], entry.get("bits") or default[1]
    inner = tensors[module + ".weight"].shape[-1] * 32 // bits
    assert tensors[module + ".scales"].shape[-1] * group == inner, (module, group, bits, mode)
    assert (module + ".biases" in tensors) == (mode == "affine"), module
    return group, bits, mode


SHIFTED = ("input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight", "q_norm.weight", "k_norm.weight")


def decoded_checkpoint(path):
    """Hugging Face names and layout in float64, and what was quantized how."""
    config = json.loads((path / "config.json").read_text())
    quantization = config["quantization"]
    tensors, dtypes = read_checkpoint(path)
    qwen35 = config["model_type"].startswith("qwen3_5")
    dense, settings = {}, {}
    for key in sorted(tensors):
        if key.endswith((".scales", ".biases")):
            continue
        module = key.removesuffix(".weight")
        if module + ".scales" in tensors:
            part = {p: tensors[f"{module}.{p}"] for p in ("weight", "scales", "biases") if f"{module}.{p}" in tensors}
            settings[module] = module_settings(quantization, module, tensors)
            dense[key] = decode(part, *settings[module])
            check_against_mlx(path, module, settings[module], dense[key])
        else:
            assert dtypes[key] != "uint32", key
            dense[key] = tensors[key]
    out, quantised = {}, {}
    multimodal = any(k.startswith("vision_tower.") for k in dense)
    for key, value in dense.items():
        name = key.replace("vision_tower.", "model.visual.").replace("language_model.lm_head", "lm_head")
        name = name.replace("language_model.model.", "model.language_model." if multimodal else "model.")
        if key.endswith("conv1d.weight"):
            value = np.moveaxis(value, 2, 1)
        if key.endswith("patch_embed.proj.weight"):
            value = value.transpose(0, 4, 1, 2, 3)
        if qwen35 and key.startswith("language_model") and key.endswith(SHIFTED):
            value = value - 1.0
        out[name] = value
        if key.removesuffix(".weight") in settings:
            quantised[name] = settings[key.removesuffix(".weight")]
    for name in [n for n in out if n.endswith("switch_mlp.gate_proj.weight")]:
        base, target = name.removesuffix("gate_proj.weight"), name.replace("switch_mlp.gate_proj.weight", "experts.")
        out[target + "gate_up_proj"] = np.concatenate([out.pop(base + m + "_proj.weight") for m in ("gate", "up")], 1)
        out[target + "down_proj"] = out.pop(base + "down_proj.weight")
        quantised[target + "gate_up_proj"] = quantised.pop(base + "gate_proj.weight")
        assert quantised.pop(base + "up_proj.weight") == quantised[target + "gate_up_proj"]
        quantised[target + "down_proj"] = quantised.pop(base + "down_proj.weight")
    return config, {k: torch.tensor(v) for k, v in out.items()}, quantised, settings, dense


def check_against_mlx(path, module, setting, ours):
    group, bits, mode = setting
    stored = mx.load(str(path / "model.safetensors"))
    wide = lambda x: x.astype(mx.float32) if mode == "affine" else x
    args = [stored[module + ".weight"], wide(stored[module + ".scales"])]
    if mode == "affine":
        args.append(wide(stored[module + ".biases"]))
    theirs = mx.dequantize(*args, group_size=group, bits=bits, mode=mode, dtype=mx.float32)
    gap = np.abs(np.array(theirs, dtype=np.float64) - ours).max()
    limit = 0.0 if mode != "affine" else 2**-22 * np.abs(ours).max()
    assert gap <= limit, (module, setting, gap)


# --------------------------------------------------------------------------------------------
# mlx-lm / mlx-vlm on the same checkpoint
# --------------------------------------------------------------------------------------------


def mlx_model(tool, path, decoded, single=True):
    utils = importlib.import_module(tool.replace("-", "_") + ".utils")
    model = utils.load_model(path)[0] if tool == "mlx-lm" else utils.load_model(path, lazy=False)
    if single:  # scales and biases too: then the packed products and the embedding are float32 throughout
        wide = lambda _, v: v.astype(mx.float32) if mx.issubdtype(v.dtype, mx.floating) else v
        model.update(tree_map_with_path(wide, model.parameters()))
    if decoded:
        modules = importlib.import_module(tool.replace("-", "_") + (".utils" if tool == "mlx-lm" else ".quant_utils"))
        for _, module in model.named_modules():  # `dequantize_model` asks for biases that these modes lack
            if hasattr(module, "scales") and "biases" not in module:
                module.biases = None
        model = modules.dequantize_model(model)
        model.update(tree_map_with_path(lambda _, v: v.astype(mx.float32), model.parameters()))
    elif single and tool == "mlx-vlm":  # the embedding of the float formats is bfloat16 whatever the scales are
        swap = [
            (name, nn.Embedding(1, 1)) for name, module in model.named_modules()
            if isinstance(module, nn.QuantizedEmbedding) and module.mode != "affine"
        ]
        for name, module in swap:
            old = dict(model.named_modules())[name]
            module.weight = mx.dequantize(old.weight, old.scales, mode=old.mode, dtype=mx.float32)
        model.update_modules(tree_unflatten(swap))
    model.train()  # eval mode would take kernels that have no gradient
    return model


def mlx_path(hf):
    hf = hf.replace("model.visual.", "vision_tower.").replace("mlp.experts.", "mlp.switch_mlp.")
    for prefix in ("model.language_model.", "model."):
        if hf.startswith(prefix):
            return "language_model.model." + hf.removeprefix(prefix)
    return "language_model.lm_head" if hf == "lm_head" else hf


def mlx_logits(model, case):
    ids = mx.array(case["input_ids"].astype(np.int32))
    if "pixel_values" in case:
        out = model(
            ids, mx.array(case["pixel_values"]), mask=mx.array(case["attention_mask"].astype(np.int32)),
            image_grid_thw=mx.array(case["image_grid_thw"].astype(np.int32)),
        )
    else:
        out = model(ids)
    return (out.logits if hasattr(out, "logits") else out).astype(mx.float32)


def mlx_loss(model, case):
    logits = mlx_logits(model, case)
    labels = case["labels"][:, 1:]
    keep = labels != mf.IGNORE
    losses = nn.losses.cross_entropy(logits[:, :-1], mx.array(np.where(keep, labels, 0).astype(np.int32)))
    return (losses * mx.array(keep)).sum() / int(keep.sum()), logits


def mlx_adapters(model, targets, start):
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
    from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear

    model.freeze()
    swap, names = [], {}
    modules = dict(model.named_modules())
    for path, _kind in targets:
        here = mlx_path(path)
        base = modules[here]
        switch = isinstance(base, (SwitchLinear, QuantizedSwitchLinear)) or base.weight.ndim == 3
        layer = (LoRASwitchLinear if switch else LoRALinear).from_base(base, r=mf.LORA_RANK, scale=mf.LORA_ALPHA / mf.LORA_RANK)
        a, b = (start[f"{path}.lora_{m}"].numpy() for m in "AB")
        layer.lora_a, layer.lora_b = (mx.array(a), mx.array(b)) if switch else (mx.array(a.T), mx.array(b.T))
        layer.linear.freeze()
        swap.append((here, layer))
        for m in "AB":
            names[f"{here}.lora_{m.lower()}"] = (f"{path}.lora_{m}", switch)
    model.update_modules(tree_unflatten(swap))
    return names


def run_mlx(tool, path, decoded, case, targets, start):
    out = {}
    model = mlx_model(tool, path, decoded)
    loss, logits = mlx_loss(model, case)
    out["padded.logits"], out["padded.loss"] = logits, loss.reshape(1)
    names = mlx_adapters(model, targets, start)
    (loss, logits), grads = nn.value_and_grad(model, lambda m: mlx_loss(m, case))(model)
    out["lora.logits"], out["lora.loss"] = logits, loss.reshape(1)
    found = dict(tree_flatten(grads))
    assert set(found) == set(names), set(found) ^ set(names)
    for here, (there, switch) in names.items():
        out["lora.grad." + there] = found[here] if switch else found[here].T
    mx.eval(list(out.values()))
    return {k: torch.tensor(np.array(v, dtype=np.float32)) for k, v in out.items()}


# --------------------------------------------------------------------------------------------
# Assembly
# --------------------------------------------------------------------------------------------

REFERENCE_CLASS = {
    "Qwen3_5ForConditionalGeneration": Qwen3_5ForCausalLM,
    "Qwen3_5MoeForConditionalGeneration": Qwen3_5MoeForCausalLM,
}


def family(key):
    return "grad" if ".grad." in "." + key else "final" if ".final." in key else "hidden" if "hidden" in key else key.split(".")[-1]


def fails(measured, condition):
    return any(
        v["max_abs_dev"] > condition[family(k)] * max(v["max_abs"], 1e-30) for k, v in measured.items() if family(k) in condition
    )


def relative(found, expected, valid=None):
    gap = (found.double() - expected.double()).abs()
    if valid is not None:
        gap = gap[valid]
    return gap.max().item() / max(expected.abs().max().item(), 1e-30)


def make(name, spec, root, seed, d):
    path = Path(root) / name
    shutil.rmtree(path, ignore_errors=True)
    cls, config = spec["build"](d)
    torch.manual_seed(seed)
    source_model = mf.build(cls, config, torch.float32)
    mf.randomise(source_model, seed, unit_norms=name == "q8-qwen3-vl")
    tensors = mf.checkpoint_tensors(source_model, "bf16")
    generator = torch.Generator().manual_seed(seed)
    if name != "q8-qwen3-vl":  # published checkpoints carry the head for several tokens
        hidden = config.get_text_config().hidden_size
        tensors["mtp.fc.weight"] = torch.randn(hidden, 2 * hidden, generator=generator).bfloat16()
        tensors["mtp.norm.weight"] = torch.randn(hidden, generator=generator).bfloat16()
    with tempfile.TemporaryDirectory() as source:
        mf.write_shards(tensors, source, 1)
        interval = None
        if name != "q8-qwen3-vl":
            interval = config.get_text_config().layer_types.index("full_attention") + 1
        mf.write_config(config, cls, source, dict(storage="bf16", interval=interval))
        run_converter(spec["tool"], source, path, **spec["convert"](d))
    if "entries" in spec:
        written = json.loads((path / "config.json").read_text())
        for key in ("quantization", "quantization_config"):
            written[key] = {**written[key], **spec["entries"]}
        (path / "config.json").write_text(json.dumps(written, indent=4))

    stored, weights, quantised, settings, decoded = decoded_checkpoint(path)
    multimodal = spec["keep"] == "all"
    if not multimodal:  # the text model alone, whatever the converter kept
        cls = REFERENCE_CLASS[cls.__name__]
        weights = {k.replace("model.language_model.", "model."): v for k, v in weights.items() if ".visual." not in k}
        quantised = {k.replace("model.language_model.", "model."): v for k, v in quantised.items()}
    build_config = lambda: spec["build"](d)[1] if multimodal else spec["build"](d)[1].get_text_config()
    models = {}
    for dtype in (torch.float32, torch.float64):
        models[dtype] = mf.build(cls, build_config(), dtype, {k: v.to(dtype) for k, v in weights.items()})
    base = models[torch.float32]
    tied = {"lm_head.weight"} if "lm_head.weight" not in weights else set()
    assert bool(tied) == bool(getattr(build_config(), "tie_word_embeddings", False))
    assert set(base.state_dict()) - tied == set(weights), set(base.state_dict()) ^ set(weights)
    if multimodal:
        (path / "preprocessor_config.json").write_text(mf.image_processor(base.config.vision_config).to_json_string())

    targets = lora_targets(name, base.config)
    start = mf.make_adapters(base, targets, 2000 + seed)
    rng = np.random.default_rng(1000 + seed)
    floats = [k for k in weights if k not in quantised]
    for attempt in range(400):
        cases, extra = mf.vision_inputs(base, rng) if multimodal else (mf.text_inputs(d["vocab"], rng), {})
        if "Moe" in cls.__name__ and min(mf.router_margin(base, c, torch.float32) for c in cases.values()) < 1e-3:
            continue
        results, measured = {}, {}
        for case_name in ("padded", "plain"):  # gradients of `plain` are not stored, so they need not be well conditioned
            for dtype, model in models.items():
                with mf.precision(dtype):
                    results[case_name, dtype] = mf.run_case(model, cases[case_name], dtype, want_hidden=case_name == "plain")
            pair = mf.deviation(results[case_name, torch.float32], results[case_name, torch.float64])
            measured.update({f"{case_name}.{k}": v for k, v in pair.items() if case_name == "padded" or "grad." not in k})
            if fails(measured, CONDITION):
                break
        if fails(measured, CONDITION):
            continue
        lora = {}
        for dtype, model in models.items():
            with mf.precision(dtype):
                lora[dtype] = mf.run_lora(model, targets, start, cases["padded"], dtype)
        lora_measured = mf.deviation(lora[torch.float32], lora[torch.float64])
        if fails(lora_measured, LORA_CONDITION) or lora_measured["adamw.losses"]["max_abs_dev"] > 2e-6:
            continue
        reference = {"padded." + k: v for k, v in results["padded", torch.float64].items()}
        reference.update({"lora." + k: v for k, v in lora[torch.float64].items()})
        reference["lora.loss"] = lora[torch.float64]["adamw.losses"][:1]
        valid = torch.tensor(cases["padded"]["attention_mask"]).bool()
        mlx_deviation = {}
        for label, is_decoded in (("packed", False), ("decoded", True)):
            found = run_mlx(spec["tool"], path, is_decoded, cases["padded"], targets, start)
            mlx_deviation[label] = {
                k: relative(v, reference[k], valid if k.endswith("logits") else None) for k, v in found.items()
            }
            if label == "packed":
                mlx_store = found
        if any(v > MLX_CONDITION[family(k)] for table in mlx_deviation.values() for k, v in table.items()):
            continue
        sequences = {}
        for dtype, model in models.items():
            with mf.precision(dtype):
                sequences[dtype] = mf.generate(model, cases["plain"], dtype)
        if sequences[torch.float64][-1] > mf.GENERATION_MARGIN:
            break
    else:
        raise RuntimeError("no well conditioned input found")

    store = dict(extra)
    info = {
        "transformers": transformers.__version__, "torch": torch.__version__, "mlx": mx.__version__,
        spec["tool"]: importlib.import_module(spec["tool"].replace("-", "_")).__version__,
        "converter": spec["tool"], "converter_options": {k: v for k, v in spec["convert"](d).items() if not callable(v)}, "input_attempts": attempt + 1,
        "seed": seed,
    }
    for case_name, case in cases.items():
        for key, value in case.items():
            t = torch.tensor(value)
            store[f"{case_name}.{key}"] = t.float() if t.is_floating_point() else t.int()
        double = results[case_name, torch.float64]
        for key, value in double.items():
            if not key.startswith("grad.") or (case_name == "padded" and key.removeprefix("grad.") in floats):
                store[f"{case_name}.{key}"] = value.float()
        info[f"{case_name}.loss"] = double["loss"].item()
        if "Moe" in cls.__name__:
            info[f"{case_name}.router_margin"] = mf.router_margin(models[torch.float64], case, torch.float64)
    measured = {k: v for k, v in measured.items() if k in store}
    prompt, tokens, logits, margin = sequences[torch.float64]
    assert torch.equal(tokens, sequences[torch.float32][1]), "float32 generation differs"
    info["generate.min_top1_top2_margin"] = margin
    measured["generate.logits"] = mf.deviation({"x": sequences[torch.float32][2]}, {"x": logits})["x"]
    store.update({"generate.prompt": prompt.int(), "generate.tokens": tokens.int(), "generate.logits": logits.float()})
    for module in settings:
        value = torch.tensor(decoded[module + ".weight"])
        rows = torch.stack([value.flatten(0, -2)[0], value.flatten(0, -2)[-1]])
        store["decode." + module] = rows.float()

    lora_store = {"init." + k: v for k, v in start.items()}
    lora_store.update({k: v.float() for k, v in lora[torch.float64].items()})
    info["lora.losses"] = [round(x, 6) for x in lora[torch.float64]["adamw.losses"].tolist()]

    half = mlx_logits(mlx_model(spec["tool"], path, False, single=False), cases["padded"])
    half = torch.tensor(np.array(half, dtype=np.float32))
    info["mlx_as_loaded_bf16_logits_deviation"] = relative(half, reference["padded.logits"], valid)

    contiguous = lambda t: {k: v.contiguous() for k, v in sorted(t.items())}
    save_file(contiguous(store), path / "reference.safetensors")
    meta = {"lora": json.dumps({"rank": mf.LORA_RANK, "alpha": mf.LORA_ALPHA, "scale": mf.LORA_ALPHA / mf.LORA_RANK, "case": "padded"})}
    save_file(contiguous(lora_store), path / "lora.safetensors", metadata=meta)
    mlx_store = {k: v for k, v in mlx_store.items() if "logits" not in k}
    save_file(contiguous(mlx_store), path / "mlx.safetensors")
    four = lambda table: {k: {a: float(f"{b:.4g}") for a, b in v.items()} for k, v in sorted(table.items())}
    report = {
        "info": info,
        "quantised": {k: {"group_size": g, "bits": b, "mode": m} for k, (g, b, m) in sorted(settings.items())},
        "dense": sorted(floats),
        "lora": {"rank": mf.LORA_RANK, "alpha": mf.LORA_ALPHA, "scale": mf.LORA_ALPHA / mf.LORA_RANK, "targets": targets, "adamw": mf.ADAM},
        "summary": mf.summarise(measured), "lora_summary": mf.summarise(lora_measured),
        "mlx_deviation": {label: {k: float(f"{v:.3g}") for k, v in table.items()} for label, table in mlx_deviation.items()},
        "deviation": four(measured), "lora_deviation": four(lora_measured),
    }
    (path / "tolerances.json").write_text(json.dumps(report, indent=0))
    size = sum(f.stat().st_size for f in path.iterdir())
    worst = {label: max(v.values()) for label, v in mlx_deviation.items()}
    print(f"== {name}: {size / 1e6:.2f} MB, attempts {attempt + 1}, losses {info['lora.losses']}")
    print("   dense matrices:", [k for k in floats if weights[k].ndim >= 2 and ".visual." not in k])
    print("   mlx worst", worst, {k: max(v.items(), key=lambda i: i[1])[0] for k, v in mlx_deviation.items()})
    print(f"   mlx bf16 logits {info['mlx_as_loaded_bf16_logits_deviation']:.2e}")
    print("   float32:", {k: f"{v['max_dev_over_max']:.1e}" for k, v in {**report["summary"], **{"lora " + k: v for k, v in report["lora_summary"].items()}}.items()})
    sys.stdout.flush()
    assert size < 1.5e6, size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--dims", choices=sorted(DIMS), default="main")
    parser.add_argument("--only", nargs="*", choices=sorted(FIXTURES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for index, (name, spec) in enumerate(FIXTURES.items()):
        if not args.only or name in args.only:
            make(name, spec, args.output, 100 * args.seed + index, DIMS[args.dims])


if __name__ == "__main__":
    main()
