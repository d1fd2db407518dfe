#!/usr/bin/env python3
"""How far the losses of the five AdamW steps move, in float64, when numbers move by one float32 unit in their last place.

The deviation of a float32 run from the float64 reference cannot be expected to be smaller. A folder is a fixture of
`make_fixtures.py`, or of `make_quantized.py` with the dimensions that it was made with.

    python conditioning.py fixtures/moe
    python conditioning.py held/q8-dense --dims holdout
"""

import argparse
import json
from pathlib import Path

import make_fixtures as mf
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

DRAWS = 8


def fixture(folder: Path, dims: str):
    """The model in float64, and the folder's case `padded`."""
    name = folder.name
    if name in mf.FIXTURES:
        cls, config = mf.FIXTURES[name]["build"]()
        weights = cls.from_pretrained(folder, dtype=torch.float32).state_dict()
    else:
        import make_quantized as mq

        cls, config = mq.FIXTURES[name]["build"](mq.DIMS[dims])
        weights = mq.decoded_checkpoint(folder)[1]
        if mq.FIXTURES[name]["keep"] != "all":
            cls, config = mq.REFERENCE_CLASS[cls.__name__], config.get_text_config()
            names = {k: k.replace("model.language_model.", "model.") for k in weights if ".visual." not in k}
            weights = {names[k]: weights[k] for k in names}
    model = mf.build(cls, config, torch.float64, {k: v.double() for k, v in weights.items()})
    with safe_open(folder / "reference.safetensors", "pt") as file:
        case = {k.removeprefix("padded."): file.get_tensor(k).numpy() for k in file.keys()
                if k.startswith("padded.") and k.split(".")[1] in INPUTS}
    return model, {k: v if v.dtype == np.float32 else v.astype(np.int64) for k, v in case.items()}


INPUTS = ("input_ids", "attention_mask", "labels", "position_ids", "pixel_values", "image_grid_thw", "mm_token_type_ids")


def moved(tensor, generator):
    """Every number one float32 unit up or down, at random."""
    single = tensor.float()
    up = torch.nextafter(single, torch.full_like(single, torch.inf)) - single
    sign = torch.randint(0, 2, single.shape, generator=generator) * 2 - 1
    return tensor + (sign * up).to(tensor.dtype)


def losses(model, targets, start, case):
    params, state, found = {k: v.double().clone() for k, v in start.items()}, {}, []
    for step in range(mf.ADAM_STEPS + 1):
        leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
        loss, _ = mf.lora_loss(model, targets, leaves, case, torch.float64)
        found.append(loss.item())
        if step < mf.ADAM_STEPS:
            grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
            mf.adamw_step(params, grads, state, step + 1, True)
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dims", default="main")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, case = fixture(args.folder, args.dims)
    targets = json.loads((args.folder / "tolerances.json").read_text())["lora"]["targets"]
    stored = load_file(args.folder / "lora.safetensors")
    start = {k.removeprefix("init."): v.double() for k, v in stored.items() if k.startswith("init.")}
    original = {k: v.clone() for k, v in model.state_dict().items()}
    with mf.precision(torch.float64):
        exact = losses(model, targets, start, case)
    print("losses              ", " ".join(f"{loss:9.6f}" for loss in exact))
    print("from the reference  ", " ".join(f"{gap:9.1e}" for gap in abs(exact - stored["adamw.losses"].numpy())))
    for what in ("adapters", "weights"):
        worst = np.zeros(len(exact))
        for draw in range(DRAWS):
            generator = torch.Generator().manual_seed(draw)
            begin = {k: moved(v, generator) for k, v in start.items()} if what == "adapters" else start
            if what == "weights":
                model.load_state_dict({k: moved(v, generator) for k, v in original.items()})
            with mf.precision(torch.float64):
                worst = np.maximum(worst, abs(losses(model, targets, begin, case) - exact))
        print(f"{what:20}", " ".join(f"{gap:9.1e}" for gap in worst), flush=True)


if __name__ == "__main__":
    main()
