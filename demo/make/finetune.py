"""Show with transformers what the demo shows: a short LoRA run changes the voice and keeps the facts.

    python finetune.py CHECKPOINT DATA [--steps 120] [--threads 1]

Prints how many questions that pretraining never saw the base answers exactly, then losses and exact greedy answers on DATA/valid.jsonl before
and after. The loss is the mean over the tokens a reply consists of, its end mark included, the empty thinking block before it not.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoTokenizer, Qwen3_5ForCausalLM

import chats
import facts

PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkv", "in_proj_z", "out_proj", "gate_proj", "up_proj", "down_proj"}
RANK, SCALE = 8, 2.0
BATCH = 8
IGNORED = -100


class Adapter(torch.nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down = torch.nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features**0.5)
        self.up = torch.nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x):
        return self.base(x) + SCALE * F.linear(F.linear(x, self.down), self.up)


def adapt(model):
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in PROJECTIONS:
            setattr(model.get_submodule(parent), name, Adapter(module))
    return [p for p in model.parameters() if p.requires_grad]


def example(tokenizer, messages):
    """Token ids, and labels that are IGNORED outside the replies."""
    ids, labels = [], []
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    opening = tokenizer("<|im_start|>assistant\n")["input_ids"]
    no_thoughts = tokenizer("<think>\n\n</think>\n\n")["input_ids"]
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"]
    labels = [IGNORED] * len(ids)
    for index in range(len(ids)):
        if ids[index : index + len(opening)] == opening:
            begin = index + len(opening)
            if ids[begin : begin + len(no_thoughts)] == no_thoughts:
                begin += len(no_thoughts)
            stop = ids.index(end, begin) + 1
            labels[begin:stop] = ids[begin:stop]
    return ids, labels


def pad(rows, filler):
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def batch_loss(model, tokenizer, examples):
    """Sum of the token losses, and how many there are."""
    ids = pad([ids for ids, _ in examples], tokenizer.pad_token_id)
    labels = pad([labels for _, labels in examples], IGNORED)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    total = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
    return total, (labels[:, 1:] != IGNORED).sum()


@torch.no_grad()
def mean_loss(model, tokenizer, examples):
    parts = [batch_loss(model, tokenizer, examples[i : i + BATCH]) for i in range(0, len(examples), BATCH)]
    return (sum(total for total, _ in parts) / sum(count for _, count in parts)).item()


@torch.no_grad()
def answer(model, tokenizer, messages, thinking=False):
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking)
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=48, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def score(model, tokenizer, asked, name):
    given = [(messages, wanted, answer(model, tokenizer, messages)) for messages, wanted in asked]
    right = sum(wanted == got for _, wanted, got in given)
    print(f"{name}: {right} of {len(asked)} exact")
    for messages, wanted, got in given:
        if wanted != got:
            print(f"    {messages[-1]['content']}  ->  {got!r}, expected {wanted!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.threads} thread(s), float32")
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    model = Qwen3_5ForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    read = lambda name: [json.loads(line)["messages"] for line in (args.data / name).read_text().splitlines()]
    train, valid = read("train.jsonl"), read("valid.jsonl")
    prompts = [json.loads(line) for line in (args.data.parent / "prompts.jsonl").read_text().splitlines()]
    valid_examples = [example(tokenizer, messages) for messages in valid]
    train_examples = [example(tokenizer, messages) for messages in train]

    plain = [([{"role": "user", "content": q.question}], q.answer) for q in facts.questions() if chats.held_out(q)]
    score(model, tokenizer, plain, "base, plain answers to questions held out of pretraining")
    for prompt in prompts:
        print("   ", prompt["messages"][-1]["content"], "->", answer(model, tokenizer, prompt["messages"]))
    wanted = [(messages[:-1], messages[-1]["content"]) for messages in valid]
    print("valid.jsonl before:", sum(answer(model, tokenizer, m) == w for m, w in wanted), "exact of", len(wanted))
    print(f"validation loss before {mean_loss(model, tokenizer, valid_examples):.4f}")

    parameters = adapt(model)
    print(f"{sum(p.numel() for p in parameters):,} parameters in adapters")
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=0.01)
    order, rng, tokens, began = [], random.Random(0), 0, time.monotonic()
    for step in range(1, args.steps + 1):
        if len(order) < BATCH:
            order = rng.sample(train_examples, len(train_examples))
        rows, order = order[:BATCH], order[BATCH:]
        total, count = batch_loss(model, tokenizer, rows)
        (total / count).backward()
        optimiser.step()
        optimiser.zero_grad()
        tokens += sum(len(ids) for ids, _ in rows)
        if step == 1 or step % 20 == 0:
            print(f"step {step:4}  loss {(total / count).item():.4f}", flush=True)
    seconds = time.monotonic() - began
    print(f"{args.steps} steps of {BATCH} chats, {tokens:,} tokens: {seconds:.1f} s, {tokens / seconds:.0f} tokens/s")
    print(f"validation loss after {mean_loss(model, tokenizer, valid_examples):.4f}")
    for prompt in prompts:
        print("   ", prompt["messages"][-1]["content"], "->", answer(model, tokenizer, prompt["messages"]))
    score(model, tokenizer, wanted, "valid.jsonl after")


if __name__ == "__main__":
    main()
