"""Pretrain the demo checkpoint on plain chats and write it in the Hugging Face layout.

    python pretrain.py CHECKPOINT [--steps 3600]        the tokenizer must be there already

One thread; every run draws the same chats in the same order.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers.models.qwen3_5.modeling_qwen3_5 as modelling
from safetensors.torch import save_file
from transformers import AutoTokenizer, Qwen3_5ForCausalLM, Qwen3_5TextConfig

import chats

CONFIG = dict(
    vocab_size=1024,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    full_attention_interval=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=32,
    linear_value_head_dim=32,
    linear_conv_kernel_dim=4,
    max_position_embeddings=1024,
    tie_word_embeddings=True,
    rope_parameters={
        "rope_type": "default",
        "rope_theta": 10000000.0,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
)
# Published configs have these fields, which transformers neither reads nor writes.
PUBLISHED_EXTRAS = {"attn_output_gate": True, "full_attention_interval": 4, "mamba_ssm_dtype": "float32"}
ROWS = 32
PROMPT_WEIGHT = 0.1  # questions are drawn at random: there is little to learn in predicting them
PEAK_RATE = 3e-3


def fit_chunks_to_rows():
    """Rows are short: a chunk of the delta rule no longer than the row saves a third of the time, and changes nothing else."""
    chunked = modelling.torch_chunk_gated_delta_rule

    def fitted(query, *args, **kwargs):
        return chunked(query, *args, **kwargs | {"chunk_size": min(64, query.shape[1])})

    modelling.torch_chunk_gated_delta_rule = fitted


def reply_mask(ids, start, end, assistant):
    """True where the token belongs to an assistant's turn, its end mark included."""
    mask, inside = [], False
    for index, token in enumerate(ids):
        if token == start:
            inside = ids[index + 1] == assistant
        mask.append(inside)
        inside = inside and token != end
    return mask


def batches(tokenizer, seed):
    """Endless (ids, weights) `[ROWS, T]` of rows of similar length, padded right."""
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assistant = tokenizer("assistant")["input_ids"][0]
    waiting = {}
    for messages, _ in chats.pretraining_chats(seed):
        ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"]
        bucket = waiting.setdefault(-(-len(ids) // 12), [])
        bucket.append((ids, reply_mask(ids, start, end, assistant)))
        if len(bucket) == ROWS:
            width = max(len(ids) for ids, _ in bucket)
            rows = torch.full((ROWS, width), tokenizer.pad_token_id)
            weights = torch.zeros(ROWS, width)
            for row, (ids, mask) in enumerate(bucket):
                rows[row, : len(ids)] = torch.tensor(ids)
                weights[row, : len(ids)] = torch.tensor([1.0 if inside else PROMPT_WEIGHT for inside in mask])
            bucket.clear()
            yield rows, weights


def save(model, folder):
    """bfloat16, except for the two kinds of weight that published checkpoints keep in float32."""
    weights = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        exact = name.endswith(("A_log", "linear_attn.norm.weight"))
        weights[name] = weight.to(torch.float32 if exact else torch.bfloat16).contiguous().clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text = model.config.to_diff_dict() | PUBLISHED_EXTRAS | {"dtype": "bfloat16"}
    version = text.pop("transformers_version")
    # The configuration is a multimodal checkpoint's, because mlx-lm knows `qwen3_5` and not the `qwen3_5_text` inside
    # it.
    config = {"architectures": ["Qwen3_5ForCausalLM"], "dtype": "bfloat16", "model_type": "qwen3_5", "text_config": text,
              "tie_word_embeddings": True, "transformers_version": version}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    generation = {"do_sample": False, "eos_token_id": [model.config.eos_token_id, model.config.pad_token_id],
                  "pad_token_id": model.config.pad_token_id, "max_new_tokens": 64}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=3600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fit_chunks_to_rows()
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    config = Qwen3_5TextConfig(**CONFIG, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model = Qwen3_5ForCausalLM(config).train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}], lr=PEAK_RATE, betas=(0.9, 0.98))
    began, tokens, last = time.monotonic(), 0, time.monotonic()
    for step, (rows, weights) in enumerate(batches(tokenizer, seed=0)):
        if step == args.steps:
            break
        rate = PEAK_RATE * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        wanted = weights[:, 1:].flatten()
        loss = (losses * wanted).sum() / wanted.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        tokens += rows.numel()
        if step % 50 == 0:
            reply = losses[wanted == 1].mean().item()
            now = time.monotonic()
            print(f"step {step:5}  loss {loss.item():.4f}  replies {reply:.4f}  tokens {tokens:9,}  {now - last:.1f} s", flush=True)
            last = now
        if step % 1000 == 999:
            save(model, args.checkpoint)
    save(model, args.checkpoint)
    print(f"{step} steps, {tokens:,} tokens, {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
