#!/usr/bin/env python3
"""Store the load-balancing loss that `transformers` computes for the fixture `moe`, and its gradients.

    python make_router.py fixtures/moe

Writes `router.safetensors` into the folder: for the inputs of the case `padded`, in float64 as in `make_fixtures.py`,

  aux_loss       the value of `load_balancing_loss_func`, without its coefficient; padding does not count
  share          how often each expert was chosen over all layers, over the number of tokens and layers; adds up to top-k
  grad.<name>    gradients of `loss + COEFFICIENT * aux_loss`: what `output_router_logits=True` trains on
  aux_grad.<name>  gradients of `aux_loss` alone

for the routers of all layers, the embedding, and one norm.  The metadata entry `coefficient` is COEFFICIENT.
"""

import argparse
import os

import torch
from safetensors.torch import load_file, save_file

from make_fixtures import IGNORE, precision
from transformers import Qwen3_5MoeForCausalLM
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import load_balancing_loss_func

COEFFICIENT = 0.25
NAMES = [f"model.layers.{layer}.mlp.gate.weight" for layer in range(4)]
NAMES += ["model.embed_tokens.weight", "model.layers.1.post_attention_layernorm.weight"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fixture")
    fixture = parser.parse_args().fixture
    inputs = load_file(os.path.join(fixture, "reference.safetensors"))
    ids, mask, labels = (inputs[f"padded.{name}"].long() for name in ("input_ids", "attention_mask", "labels"))
    assert (labels[mask == 0] == IGNORE).all()

    with precision(torch.float64):
        model = Qwen3_5MoeForCausalLM.from_pretrained(fixture, dtype=torch.float64, experts_implementation="eager").eval()
        model.router_aux_loss_coef = COEFFICIENT
        parameters = dict(model.named_parameters())
        wanted = [parameters[name] for name in NAMES]
        outputs = model(input_ids=ids, attention_mask=mask, labels=labels, output_router_logits=True)
        stored = {"aux_loss": outputs.aux_loss.reshape(1)}
        plain = outputs.loss - COEFFICIENT * outputs.aux_loss
        assert abs(plain.item() - inputs["padded.loss"].item()) < 1e-6, (plain, inputs["padded.loss"])

        shares = torch.zeros(model.config.num_experts)
        for logits in outputs.router_logits:
            chosen = torch.topk(logits, model.config.num_experts_per_tok, dim=-1).indices[mask.reshape(-1) == 1]
            shares += torch.bincount(chosen.reshape(-1), minlength=len(shares))
        shares /= mask.sum() * len(outputs.router_logits)
        again = load_balancing_loss_func(outputs.router_logits, len(shares), model.config.num_experts_per_tok, mask)
        assert torch.equal(again, outputs.aux_loss)
        stored["share"] = shares

        for prefix, loss in (("aux_grad.", outputs.aux_loss), ("grad.", outputs.loss)):
            gradients = torch.autograd.grad(loss, wanted, retain_graph=True)
            stored.update({prefix + name: gradient for name, gradient in zip(NAMES, gradients)})
    stored = {name: tensor.detach().float().contiguous() for name, tensor in stored.items()}
    save_file(stored, os.path.join(fixture, "router.safetensors"), metadata={"coefficient": str(COEFFICIENT)})
    print(f"aux_loss {stored['aux_loss'].item():.6f}, shares {[round(s, 3) for s in stored['share'].tolist()]}")


if __name__ == "__main__":
    main()
