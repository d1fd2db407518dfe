"""Asks an adapter of the demo the same questions in this project's program, in mlx-lm and in mlx-vlm (`check_ours.py`)."""

import subprocess
from pathlib import Path

import bases
import mlx.core as mx

QUESTIONS = ["What is the capital of Spain?", "What is the capital of Denmark?"]


def answer(call, tokenizer, question: str) -> str:
    """Answers greedily, without a cache: `call` gives the scores of all places."""
    # mlx-lm lets models think unless it is asked not to; the demo's template does not.
    message = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False, enable_thinking=False)
    prompt = tokenizer.encode(text, add_special_tokens=False)
    tokens = list(prompt)
    while len(tokens) < len(prompt) + 48:
        token = int(mx.argmax(call(mx.array([tokens]))[0, -1]))
        if token in (1015, 1017):
            break
        tokens.append(token)
    return tokenizer.decode(tokens[len(prompt) :])


def check(program: Path, work: Path) -> None:
    """Trains the adapter in the folder `work`, asks, and fails if the answers differ."""
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load
    from mlx_vlm.trainer.peft import apply_lora_layers
    from mlx_vlm.utils import load_model

    base, adapter = bases.text(work / "text"), work / "adapter"
    run = [program, "train", "--model", base, "--data", bases.TOP / "demo/data", "--output", adapter]
    run += ["--iters", "60", "--rank", "4", "--scale", "2", "--learning-rate", "4e-3", "--val-batches", "1"]
    run += ["--target", "self_attn.*,in_proj_qkv,mlp.*,layers.0.linear_attn.out_proj"]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)

    def ours(question):
        ask = [program, "generate", "--model", base, "--adapter-path", adapter, "--prompt", question]
        return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()

    model, tokenizer = load(str(base))
    plain = [answer(model, tokenizer, question) for question in QUESTIONS]
    load_adapters(model, str(adapter))
    vision = load_model(bases.demo_with_vision(work / "vision"))
    apply_lora_layers(vision, adapter)
    for question, before in zip(QUESTIONS, plain):
        here = ours(question)
        there = answer(model, tokenizer, question).strip()
        with_vision = answer(lambda tokens: vision.language_model(tokens).logits, tokenizer, question).strip()
        print(f"{question}\n  before    {before}\n  cotangent {here}\n  mlx-lm    {there}\n  mlx-vlm   {with_vision}")
        assert here == there == with_vision, "the answers differ"
        assert here != before.strip(), "an adapter without an effect proves nothing"
