"""The loss of the demo's checkpoint on `demo/data/valid.jsonl` as mlx-lm counts it, and why it is another number.

    python losses.py

Prints the loss of `mlx_lm.lora --test`, with and without `--mask-prompt`, and what the second is a mean over.
"""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import bases
import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.datasets import CacheDataset, ChatDataset, load_local_dataset
from mlx_lm.tuner.trainer import evaluate
from mlx_lm.utils import load

DATA = bases.TOP / "demo/data"


def token_losses(model, tokens: list) -> list:
    logits = model(mx.array([tokens[:-1]]))[0].astype(mx.float32)
    return nn.losses.cross_entropy(logits, mx.array(tokens[1:])).tolist()


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        model, tokenizer = load(str(bases.text(Path(work))))
    rows = [json.loads(line) for line in (DATA / "valid.jsonl").read_text().splitlines()]
    for mask_prompt in [False, True]:
        options = SimpleNamespace(mask_prompt=mask_prompt)
        data, valid, _ = load_local_dataset(DATA, tokenizer, options)
        loss = evaluate(model, CacheDataset(valid), batch_size=4, num_batches=-1, max_seq_length=1024)
        print(f"mlx_lm, {'--mask-prompt' if mask_prompt else 'no mask'}: {loss:.3f}")

    counts = {"the assistant's words and the end of the turn": [], "before them": [], "after them": [], "padding": []}
    reply, before, after, padding = counts.values()
    for row in rows:
        # As with `--mask-prompt`, this gives where the loss begins, and one token more than the row has.
        tokens, first = ChatDataset([row], tokenizer, mask_prompt=True).process(row)
        words = tokenizer.encode(row["messages"][-1]["content"], add_special_tokens=False)
        start = next(at for at in range(first, len(tokens)) if tokens[at : at + len(words)] == words)
        end = start + len(words) + 1
        assert tokens[end - 1] == tokenizer.eos_token_id
        losses = token_losses(model, tokens + [0])
        before += losses[first - 1 : start - 1]
        reply += losses[start - 1 : end - 1]
        after += losses[end - 1 : len(tokens) - 1]
        padding += losses[len(tokens) - 1 :]
    for name, losses in counts.items():
        print(f"{name}: {len(losses)} tokens, loss {sum(losses) / len(losses):.3f}")
    together = sum(counts.values(), [])
    print(f"together: {len(together)} tokens, loss {sum(together) / len(together):.3f}")


if __name__ == "__main__":
    main()
