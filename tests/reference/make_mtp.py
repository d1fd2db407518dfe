#!/usr/bin/env python3
"""A tiny Qwen3.5 checkpoint with its head of multi-token prediction, and what that head learns.

No library trains this head, so it is written here from its formulas, in float64 through torch's autograd, on top of the trunk of
`transformers`:

  x_t    = fc([norm_e(embedding of token t + 1), norm_h(hidden state t after the trunk's final norm)])
  h_t    = norm(layer(x)_t), a layer of gated full attention at the positions of the tokens t + 1
  loss   = mean of -log p(token t + 2) under the trunk's head, where token t + 2 is a target of the same row

The embeddings are those that the trunk reads, pictures among them. All norms scale by 1 + w.

    python make_mtp.py OUTPUT_DIR

OUTPUT_DIR gets the checkpoint and reference.safetensors: the inputs of the case `ahead` (two rows of different lengths, three pictures),
`ahead.loss` of the next token, `ahead.mtp_loss`, and `ahead.grad.*` of `loss + WEIGHT * mtp_loss` for every parameter.
"""

import argparse
import json
import math
import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import make_fixtures as fixtures
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

WEIGHT = 0.3
SEED = 16
EPSILON = 1e-6


def config():
    text = fixtures.text_dims(2, 2, False)
    text.update(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, linear_num_key_heads=1, linear_num_value_heads=2)
    vision = dict(fixtures.VISION, depth=1, hidden_size=16, intermediate_size=24, out_hidden_size=32, num_position_embeddings=16)
    return Qwen3_5Config(text_config=dict(intermediate_size=48, **text), vision_config=vision, **fixtures.SPECIAL)


def head_shapes(text):
    hidden, heads, groups, width = text.hidden_size, text.num_attention_heads, text.num_key_value_heads, text.head_dim
    layer = {
        "input_layernorm": [hidden],
        "self_attn.q_proj": [2 * heads * width, hidden],
        "self_attn.k_proj": [groups * width, hidden],
        "self_attn.v_proj": [groups * width, hidden],
        "self_attn.o_proj": [hidden, heads * width],
        "self_attn.q_norm": [width],
        "self_attn.k_norm": [width],
        "post_attention_layernorm": [hidden],
        "mlp.gate_proj": [text.intermediate_size, hidden],
        "mlp.up_proj": [text.intermediate_size, hidden],
        "mlp.down_proj": [hidden, text.intermediate_size],
    }
    outer = {"fc": [hidden, 2 * hidden], "norm": [hidden], "pre_fc_norm_embedding": [hidden], "pre_fc_norm_hidden": [hidden]}
    return {f"mtp.{k}.weight": v for k, v in outer.items()} | {f"mtp.layers.0.{k}.weight": v for k, v in layer.items()}


def rms_norm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt() * (1 + weight)


def rotate(x, positions, text):
    """x [B, H, T, D], positions [3, B, T]: the first quarter of the lanes, their frequencies taking turns among the axes."""
    rope = text.rope_parameters
    lanes = int(text.head_dim * rope["partial_rotary_factor"])
    half = lanes // 2
    frequency = torch.tensor([rope["rope_theta"] ** (-2 * f / lanes) for f in range(half)], dtype=x.dtype)
    _, height, width = rope["mrope_section"]
    axis = [1 if f % 3 == 1 and f < 3 * height else 2 if f % 3 == 2 and f < 3 * width else 0 for f in range(half)]
    angle = torch.stack([positions[axis[f]].to(x.dtype) * frequency[f] for f in range(half)], -1)[:, None]
    low, high, rest = x[..., :half], x[..., half:lanes], x[..., lanes:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([low * cos - high * sin, high * cos + low * sin, rest], -1)


def attention(x, positions, w, text):
    rows, tokens, _ = x.shape
    heads, groups, width = text.num_attention_heads, text.num_key_value_heads, text.head_dim
    query, gate = (x @ w["q_proj"].T).view(rows, tokens, heads, 2, width).unbind(3)
    key = (x @ w["k_proj"].T).view(rows, tokens, groups, width)
    value = (x @ w["v_proj"].T).view(rows, tokens, groups, width).transpose(1, 2)
    query = rotate(rms_norm(query, w["q_norm"]).transpose(1, 2), positions, text)
    key = rotate(rms_norm(key, w["k_norm"]).transpose(1, 2), positions, text)
    key, value = (t.repeat_interleave(heads // groups, 1) for t in (key, value))
    scores = query @ key.transpose(2, 3) / math.sqrt(width)
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    mixed = (scores.masked_fill(later, -math.inf).softmax(-1) @ value).transpose(1, 2)
    return (mixed * gate.sigmoid()).reshape(rows, tokens, heads * width) @ w["o_proj"].T


def predict(hidden, embedded, positions, head, text):
    """What the trunk's head scores, of all places but the last: [B, T - 1, hidden]."""
    w = {k.removeprefix("mtp.").removesuffix(".weight"): v for k, v in head.items()}
    x = torch.cat([rms_norm(embedded[:, 1:], w["pre_fc_norm_embedding"]), rms_norm(hidden[:, :-1], w["pre_fc_norm_hidden"])], -1)
    x = x @ w["fc"].T
    layer = {k.removeprefix("layers.0."): v for k, v in w.items()}
    of_attention = {k.removeprefix("self_attn."): v for k, v in layer.items()}
    x = x + attention(rms_norm(x, layer["input_layernorm"]), positions[:, :, 1:], of_attention, text)
    y = rms_norm(x, layer["post_attention_layernorm"])
    x = x + (F.silu(y @ layer["mlp.gate_proj"].T) * (y @ layer["mlp.up_proj"].T)) @ layer["mlp.down_proj"].T
    return rms_norm(x, w["norm"])


def run(model, head, case, dtype):
    text, seen = model.config.text_config, {}
    hook = lambda module, args, kwargs: seen.__setitem__("embedded", kwargs["inputs_embeds"])
    handle = model.model.language_model.register_forward_pre_hook(hook, with_kwargs=True)
    hidden = model.model(**fixtures.model_inputs(case, dtype), use_cache=False).last_hidden_state
    handle.remove()
    labels = torch.tensor(case["labels"])
    loss, _ = fixtures.mean_loss(model.lm_head(hidden), labels)
    head = {k: v.detach().to(dtype).requires_grad_() for k, v in head.items()}
    ahead = predict(hidden, seen["embedded"], torch.tensor(case["position_ids"]), head, text)
    logits, targets = model.lm_head(ahead)[:, :-1], labels[:, 2:]
    mtp_loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=fixtures.IGNORE)
    named = dict(model.named_parameters()) | head
    gradients = torch.autograd.grad(loss + WEIGHT * mtp_loss, list(named.values()))
    result = {"loss": loss.detach().reshape(1), "mtp_loss": mtp_loss.detach().reshape(1)}
    return result | {f"grad.{k}": g.detach() for k, g in zip(named, gradients)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    path = parser.parse_args().output
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    cls = Qwen3_5ForConditionalGeneration
    single = fixtures.build(cls, config(), torch.float32)
    fixtures.randomise(single, SEED, unit_norms=False)
    weights = {k: v.detach().clone() for k, v in single.state_dict().items()}
    rng = np.random.default_rng(SEED + 1)
    drawn = {k: fixtures.random_parameter(k, tuple(shape), rng, False) for k, shape in head_shapes(single.config.text_config).items()}
    head = {k: torch.tensor(v, dtype=torch.float32).bfloat16() for k, v in drawn.items()}
    fixtures.write_shards(fixtures.checkpoint_tensors(single, "bf16") | head, path, 1)
    fixtures.write_config(config(), cls, path, dict(storage="bf16", interval=2))
    models = {torch.float32: single, torch.float64: fixtures.build(cls, config(), torch.float64, weights)}

    rng = np.random.default_rng(SEED + 2)
    for _ in range(200):
        case = fixtures.vision_inputs(single, rng)[0]["padded"]
        results = {}
        for dtype, model in models.items():
            with fixtures.precision(dtype):
                results[dtype] = run(model, head, case, dtype)
        deviation = fixtures.summarise(fixtures.deviation(results[torch.float32], results[torch.float64]))
        if deviation["grad"]["max_dev_over_max"] < fixtures.GRADIENT_CONDITION:
            break
    else:
        raise RuntimeError("no well conditioned input found")
    store = {k: torch.tensor(v) for k, v in case.items()}
    store = {k: (t.float() if t.is_floating_point() else t.int()) for k, t in store.items()}
    store |= {k: t.float() for k, t in results[torch.float64].items()}
    store = {f"ahead.{k}": t.contiguous() for k, t in sorted(store.items())}
    save_file(store, os.path.join(path, "reference.safetensors"), metadata={"weight": str(WEIGHT)})
    print(json.dumps(deviation, indent=1), {k: results[torch.float64][k].item() for k in ("loss", "mtp_loss")})


if __name__ == "__main__":
    main()
