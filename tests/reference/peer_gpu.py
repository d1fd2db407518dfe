#!/usr/bin/env python3
"""Time LoRA training steps of transformers with PEFT on a GPU, for a description of `tests/bench`.

    python peer_gpu.py ../bench/35b_cut.json [more.json ..]

The counterpart of `peer_bench.py` for larger models: bfloat16 weights drawn on the device, adapters in float32 under autocast
as trainers have it, a fused AdamW, experts by grouped products. Rows of tokens, pictures, targets and what trains are those of
`cargo xtask bench`; so are the keys of the JSON that is printed, one object a description. Quantized descriptions are
refused: transformers does not read MLX's codes. Without flash-linear-attention transformers computes the gated delta rule by
plain operations; which of the two it was is in `versions`.
"""

import gc
import importlib.metadata
import json
import os
import statistics
import sys
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch
import transformers
from peft import LoraConfig, get_peft_model

from peer_bench import read

ROLES = {
    "attention": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "linear_attention": ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"],
    "mlp": ["gate_proj", "up_proj", "down_proj"],
}
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
DEVICE = os.environ.get("PEER_DEVICE", "cuda")


def build(spec):
    config = dict(spec["config"])
    if config.pop("quantization", None):
        raise SystemExit("transformers does not read MLX's codes: give a description without `quantization`")
    text = config.get("text_config", config)
    kind = "Qwen3_5Moe" if text.get("num_experts") else "Qwen3_5"
    if spec.get("patches_per_side"):
        config, name = getattr(transformers, kind + "Config")(**config), kind + "ForConditionalGeneration"
    else:
        config, name = getattr(transformers, kind + "TextConfig")(**text), kind + "ForCausalLM"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE):
            model = getattr(transformers, name)._from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    finally:
        torch.set_default_dtype(before)
    targets = spec["lora"]["targets"]
    modules = [name for target in targets if target != "experts" for name in ROLES.get(target, [target])]
    rank, scale = spec["lora"]["rank"], spec["lora"]["scale"]
    model = get_peft_model(model, LoraConfig(
        r=rank, lora_alpha=rank * scale, target_modules=modules, target_parameters=EXPERTS if "experts" in targets else None))
    if spec.get("train_tower"):
        for name, parameter in model.named_parameters():
            if ".visual." in name:
                parameter.requires_grad_(True)
    return model.to(DEVICE).train(), config


def batch(spec, config):
    generator = torch.Generator().manual_seed(spec["seed"])
    rows, tokens, side = spec["batch"], spec["tokens"], spec.get("patches_per_side")
    text = getattr(config, "text_config", config)
    # Random tokens are below those of pictures, which are the last of the vocabulary.
    highest = config.image_token_id - 16 if side else text.vocab_size
    ids = torch.randint(1, highest, (rows, tokens), generator=generator)
    labels = ids.clone()
    inputs = {}
    if side:
        vision = config.vision_config
        slots = side * side // vision.spatial_merge_size**2
        ids[:, :slots] = config.image_token_id
        labels[:, :slots] = -100
        length = 3 * vision.temporal_patch_size * vision.patch_size**2
        inputs["pixel_values"] = torch.rand(rows * side * side, length, generator=generator) * 2 - 1
        inputs["image_grid_thw"] = torch.tensor([[1, side, side]] * rows)
        inputs["mm_token_type_ids"] = (ids == config.image_token_id).long()
    inputs |= {"input_ids": ids, "labels": labels}
    return {name: value.to(DEVICE, torch.bfloat16 if value.is_floating_point() else None) for name, value in inputs.items()}


def bench(path):
    spec = read(path)
    for key, value in {"warmup": 1, "steps": 5, "seed": 0, "optimizer": {}}.items():
        spec.setdefault(key, value)
    torch.manual_seed(spec["seed"])
    model, config = build(spec)
    inputs = batch(spec, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=spec["optimizer"].get("lr", 1e-4), weight_decay=spec["optimizer"].get("weight_decay", 0.01),
        fused=DEVICE == "cuda")
    synchronize, peak = (lambda: None), (lambda: 0)
    if DEVICE == "cuda":
        synchronize, peak = torch.cuda.synchronize, torch.cuda.max_memory_allocated
        torch.cuda.reset_peak_memory_stats()
    times, losses = [], []
    for step in range(spec["warmup"] + spec["steps"]):
        start = time.perf_counter()
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        synchronize()
        times.append(time.perf_counter() - start)
        print(f"step {step}: {times[-1]:.4f} s, loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    median = statistics.median(times[spec["warmup"]:])

    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    packages = ["torch", "transformers", "peft", "flash-linear-attention", "causal-conv1d"]
    print(json.dumps({
        "description": os.path.basename(path),
        "peer": "transformers",
        "versions": {package: version(package) for package in packages},
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE,
        "experts": getattr(getattr(config, "text_config", config), "_experts_implementation", None),
        "batch": spec["batch"],
        "tokens": spec["tokens"],
        "median_step_s": round(median, 4),
        "tokens_per_s": round(spec["batch"] * spec["tokens"] / median, 2),
        "steps_s": [round(t, 4) for t in times[spec["warmup"]:]],
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "trainable_parameters": sum(parameter.numel() for parameter in trained),
        "peak_mib": round(peak() / 2**20, 1),
    }, indent=1), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for description in sys.argv[1:]:
        bench(description)
        gc.collect()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
