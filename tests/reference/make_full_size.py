#!/usr/bin/env python3
"""References at a model's full width, made on a GPU: a checkpoint with random weights for a description of `tests/bench`, and what
transformers computes of it in float64, for `cargo xtask parity`.

    python make_full_size.py OUTPUT_DIR ../bench/0.8b_8bits.json [--layers N] [--tokens N]

Where the description has a `quantization` of 8 bits, matrices are random codes: `scale * code + bias` in float64 is what
transformers gets, and the gradients are those of the parameters that are no codes. Where it has pictures, there is one, of
its size, and the tower is among what has gradients. One row; the first third of it is no target.
"""

import argparse
import json
import os
import time

import torch
from safetensors.torch import save_file

import make_fixtures as fixtures
import transformers
from peer_bench import read

DEVICE = os.environ.get("PEER_DEVICE", "cuda")
GROUP = 64


def configuration(spec, layers):
    config = dict(spec["config"])
    config.pop("quantization", None)
    text = config.get("text_config", config)
    if layers:
        text["num_hidden_layers"] = layers
        text["full_attention_interval"] = min(layers, text["full_attention_interval"])
    text.setdefault("tie_word_embeddings", config.get("tie_word_embeddings", False))
    kind = "Qwen3_5Moe" if text.get("num_experts") else "Qwen3_5"
    if spec.get("patches_per_side"):
        return getattr(transformers, kind + "ForConditionalGeneration"), getattr(transformers, kind + "Config")(**config)
    return getattr(transformers, kind + "ForCausalLM"), getattr(transformers, kind + "TextConfig")(**text)


def draw(name, parameter, generator):
    normal = torch.randn(parameter.shape, generator=generator, device=DEVICE, dtype=torch.float32)
    if name.endswith("A_log"):
        return torch.rand(parameter.shape, generator=generator, device=DEVICE) * 2.5
    if name.endswith("dt_bias"):
        return 0.5 * normal - 2
    if name.endswith("conv1d.weight"):
        return 0.4 * normal
    if "norm" in name and name.endswith("weight"):
        plain = "linear_attn.norm" in name or ".visual." in name
        return 0.2 * normal + (1 if plain else 0)
    if parameter.ndim == 1:
        return 0.2 * normal
    if "pos_embed" in name:
        return 0.5 * normal
    fan_in = parameter[0].numel() if "patch_embed" in name else parameter.shape[-1]
    spread = 2.0 if name.endswith("mlp.gate.weight") else 1.0
    return spread * normal * fan_in**-0.5


def codes(shape, spread, generator):
    """Codes of 8 bits, and scales and biases that bfloat16 holds."""
    groups = (*shape[:-1], shape[-1] // GROUP)
    q = torch.randint(0, 256, shape, generator=generator, device=DEVICE, dtype=torch.uint8)
    wide = spread * 12**0.5 * shape[-1] ** -0.5 / 255
    scales = (wide * (0.8 + 0.4 * torch.rand(groups, generator=generator, device=DEVICE))).bfloat16()
    return q, scales, (-127.5 * scales.float()).bfloat16()


def decoded(q, scales, biases):
    by_group = q.double().unflatten(-1, (-1, GROUP))
    return (by_group * scales.double()[..., None] + biases.double()[..., None]).flatten(-2)


def fill(model, quantized, generator):
    """Draws all parameters. The tensors of the checkpoint, and the ends of its decoded matrices."""
    stored, ends = {}, {}
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and "conv1d" not in name and ".visual." not in name
        if not (quantized and is_matrix):
            value = draw(name, parameter, generator)
            if not name.endswith(fixtures.KEEP_F32):
                value = value.bfloat16()
            stored[name] = value
            parameter.data.copy_(value)
            continue
        parameter.requires_grad_(False)
        parts = codes(tuple(parameter.shape), 2.0 if name.endswith("mlp.gate.weight") else 1.0, generator)
        parameter.data.copy_(decoded(*parts))
        module = name.removesuffix(".weight")
        pieces = [(module, slice(None))]
        if module.endswith("experts.gate_up_proj"):
            half = parameter.shape[1] // 2
            stem = module.removesuffix("experts.gate_up_proj") + "switch_mlp."
            pieces = [(stem + "gate_proj", slice(0, half)), (stem + "up_proj", slice(half, None))]
        elif module.endswith("experts.down_proj"):
            pieces = [(module.replace("experts.", "switch_mlp."), slice(None))]
        for piece, rows in pieces:
            own = [part[..., rows, :].contiguous() for part in parts]
            stored[piece + ".weight"] = own[0].view(torch.uint32)
            stored[piece + ".scales"], stored[piece + ".biases"] = own[1:]
            flat = [part.flatten(0, -2) for part in own]
            ends[piece] = decoded(*(part[[0, -1]] for part in flat))
    return stored, ends


def inputs(spec, model, tokens, generator):
    side = spec.get("patches_per_side")
    text = getattr(model.config, "text_config", model.config)
    highest = model.config.image_token_id - 16 if side else text.vocab_size
    ids = torch.randint(1, highest, (1, tokens), generator=generator, device=DEVICE)
    case = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = ids.clone()
    labels[:, : tokens // 3] = fixtures.IGNORE
    if side:
        vision = model.config.vision_config
        slots = side * side // vision.spatial_merge_size**2
        ids[:, :slots] = model.config.image_token_id
        labels[:, :slots] = fixtures.IGNORE
        length = 3 * vision.temporal_patch_size * vision.patch_size**2
        case["pixel_values"] = (torch.rand(side * side, length, generator=generator, device=DEVICE) * 2 - 1).float()
        case["image_grid_thw"] = torch.tensor([[1, side, side]], device=DEVICE)
        case["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
        case["position_ids"], _ = model.model.get_rope_index(
            ids, mm_token_type_ids=case["mm_token_type_ids"], image_grid_thw=case["image_grid_thw"],
            attention_mask=case["attention_mask"])
    return case, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("description")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tokens", type=int, default=300)
    arguments = parser.parse_args()
    start = time.time()
    spec = read(arguments.description)
    quantization = spec["config"].get("quantization")
    assert quantization in (None, {"group_size": GROUP, "bits": 8}), quantization
    os.makedirs(arguments.output, exist_ok=True)
    torch.set_default_device(DEVICE)
    cls, config = configuration(spec, arguments.layers)
    generator = torch.Generator(DEVICE).manual_seed(7)
    model = fixtures.build(cls, config, torch.float64)
    stored, ends = fill(model, quantization is not None, generator)
    host = lambda tensors: {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(host(stored), os.path.join(arguments.output, "model.safetensors"), metadata={"format": "pt"})
    written = config.to_dict() | {"architectures": [cls.__name__]}
    if quantization:
        written["quantization"] = quantization
    with open(os.path.join(arguments.output, "config.json"), "w") as f:
        json.dump(written, f, indent=1, default=str)

    case, labels = inputs(spec, model, arguments.tokens, generator)
    with fixtures.precision(torch.float64):
        given = {name: value.double() if value.is_floating_point() else value for name, value in case.items()}
        logits = model(**given, use_cache=False).logits
        loss, per_token = fixtures.mean_loss(logits, labels)
        loss.backward()
    reference = case | {"labels": labels, "logits": logits, "token_loss": per_token, "loss": loss.reshape(1)}
    reference |= {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.requires_grad}
    narrow = lambda tensor: tensor.detach().float() if tensor.is_floating_point() else tensor.int()
    reference = {f"plain.{name}": narrow(tensor) for name, tensor in reference.items()}
    reference |= {f"decode.{module}": rows.float() for module, rows in ends.items()}
    save_file(host(reference), os.path.join(arguments.output, "reference.safetensors"))
    gradients = sum(name.startswith("plain.grad.") for name in reference)
    print(f"loss {loss.item():.6f} in {logits.dtype}, {gradients} gradients, {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
