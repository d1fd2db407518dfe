"""Checks that mlx-lm, mlx-vlm and PEFT compute the same as this project with the adapters and checkpoints that it writes.

    cargo build -p cotangent-trainer --bins --example scores
    python check_ours.py ../../target/debug/cotangent

Each line of the table is one file that was written, the program that read it, the largest difference between its scores and
this project's, and how much the file changes the scores of the base model, both as parts of the largest score: a file without
an effect proves nothing. In the end an adapter of the demo answers questions in all programs.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import answers
import bases
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
import transformers
from peft import PeftModel
from safetensors.numpy import load_file, save_file

# Both sides compute in float32, in different orders.
TOLERANCE = 1e-5
TEXT = [3, 40, 7, 61, 12, 90, 33, 5, 21, 77, 8, 64]
# One picture of 8 by 6 patches, of which four become a token.
VISION_START, VISION_END, IMAGE = 250, 251, 252
GRID = [1, 8, 6]
WITH_PICTURE = TEXT[:4] + [VISION_START] + 12 * [IMAGE] + [VISION_END] + TEXT[4:]
TEXT_CLASS, SEEING_CLASS = "AutoModelForCausalLM", "AutoModelForImageTextToText"
PATCH = 3 * 2 * 4 * 4
PIXELS = np.random.default_rng(0).standard_normal((8 * 6, PATCH)).astype(np.float32)

QUANTIZED = {
    "4 bits": "--q-bits 4 --q-group-size 32",
    "8 bits": "--q-bits 8",
    "mixed_3_6": "--q-group-size 32 --quant-predicate mixed_3_6",
    "mxfp4": "--q-mode mxfp4",
    "mxfp8": "--q-mode mxfp8",
    "nvfp4": "--q-mode nvfp4",
}


class Ours:
    """This project's programs, in a folder to work in."""

    def __init__(self, program: Path, work: Path):
        self.program, self.work, self.adapters = program, work, 0
        self.scoring = program.parent / "examples" / "scores"
        assert self.scoring.exists(), f"{self.scoring}: build it with `cargo build -p cotangent-trainer --example scores`"
        turns = [("Who are you?", "a cat"), ("What is this?", "a dog, it seems"), ("One?", "Two.")]
        shutil.copy(bases.TOP / "tests/reference/vision/rgb.png", work / "rgb.png")
        for name, pictures in [("text", {}), ("pictures", {"images": ["rgb.png"]})]:
            rows = [{"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}], **pictures}
                    for asked, said in turns]
            (work / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(self, *arguments) -> None:
        done = subprocess.run([self.program, *arguments], cwd=self.work, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"

    def convert(self, base: Path, options: str) -> Path:
        output = self.work / f"{base.name} {options}".replace(" ", "_")
        if not output.exists():
            self.run("convert", "--model", base, "--output", output, *options.split())
        return output

    def train(self, base: Path, options: str = "", data: str = "text") -> Path:
        self.adapters += 1
        output = self.work / f"adapter-{self.adapters}"
        fixed = "--iters 6 --batch-size 3 --rank 3 --scale 4 --learning-rate 2e-3"
        self.run("train", "--model", base, "--data", f"{data}.jsonl", "--output", output, *fixed.split(), *options.split())
        return output

    def export(self, base: Path, adapter: Path, *options) -> Path:
        output = self.work / f"{adapter.name}-peft"
        self.run("export", "--model", base, "--adapter-path", adapter, "--output", output, *options)
        return output

    def scores(self, base: Path, adapter: Path | None = None, picture: bool = False) -> np.ndarray:
        inputs = {"input_ids": np.array(WITH_PICTURE if picture else TEXT, np.int32)}
        if picture:
            inputs |= {"pixel_values": PIXELS, "image_grid_thw": np.array([GRID], np.int32)}
        save_file(inputs, self.work / "input.safetensors")
        folders = [base] if adapter is None else [base, adapter]
        subprocess.run([self.scoring, self.work / "input.safetensors", self.work / "output.safetensors", *folders], check=True)
        return load_file(self.work / "output.safetensors")["logits"]


def mlx_lm(base: Path, adapter: Path | None = None) -> np.ndarray:
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    model, _ = load_model(base)
    if adapter is not None:
        model = load_adapters(model, str(adapter))
    return np.array(model(mx.array([TEXT]))[0].astype(mx.float32))


def mlx_vlm(base: Path, adapter: Path | None = None, picture: bool = False) -> np.ndarray:
    from mlx_vlm.trainer.peft import apply_lora_layers
    from mlx_vlm.utils import load_model

    model = load_model(base)
    if adapter is not None:
        model = apply_lora_layers(model, adapter)
    # Codes of the fp modes are decoded to bfloat16, in which mlx-vlm would then compute parts of the first layer.
    embedding = nn.QuantizedEmbedding.__call__
    nn.QuantizedEmbedding.__call__ = lambda self, tokens: embedding(self, tokens).astype(mx.float32)
    try:
        return mlx_vlm_scores(model, picture)
    finally:
        nn.QuantizedEmbedding.__call__ = embedding


def mlx_vlm_scores(model, picture: bool) -> np.ndarray:
    if not picture:
        return np.array(model(mx.array([TEXT])).logits[0].astype(mx.float32))
    seen = model(mx.array([WITH_PICTURE]), mx.array(PIXELS), image_grid_thw=mx.array([GRID]))
    return np.array(seen.logits[0].astype(mx.float32))


def peft(base: Path, adapter: Path, kind: str = TEXT_CLASS, picture: bool = False, changed: Path | None = None) -> np.ndarray:
    """The scores; with `changed`, of the adapter after every factor has moved a little, which is saved to that folder."""
    # In float32 its scores are farther from those in float64 than this program's.
    model = getattr(transformers, kind).from_pretrained(base, dtype=torch.float64)
    # Other implementations multiply rows of several experts at once, in an order of their own.
    model.set_experts_implementation("eager")
    with warnings.catch_warnings():
        # PEFT warns of tensors that it does not find, and goes on.
        warnings.filterwarnings("error", ".*adapter keys.*")
        model = PeftModel.from_pretrained(model, adapter).eval().double()
    if changed is not None:
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data += 0.02 * torch.randn(parameter.shape, dtype=parameter.dtype)
        model.float().save_pretrained(changed, save_embedding_layers=False)
        model.double()
    inputs = {"input_ids": torch.tensor([WITH_PICTURE if picture else TEXT])}
    if picture:
        inputs |= {"pixel_values": torch.tensor(PIXELS).double(), "image_grid_thw": torch.tensor([GRID])}
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == IMAGE).int()
    with torch.no_grad():
        return model(**inputs).logits[0].numpy()


def compare(what: str, reader: str, ours: np.ndarray, theirs: np.ndarray, before: np.ndarray) -> None:
    largest = np.abs(ours).max()
    difference, effect = np.abs(ours - theirs).max() / largest, np.abs(ours - before).max() / largest
    print(f"| {what} | {reader} | {difference:.1e} | {effect:.1e} |", flush=True)
    assert difference < TOLERANCE, "the scores differ"
    assert effect > 1000 * TOLERANCE, "a file without an effect proves nothing"


def check_peft(ours: Ours, vlm: Path, moe: Path, moe_vlm: Path, mtp: Path, qwen3_vl: Path) -> None:
    """Adapters that are exported; and what this program reads of the exported ones."""
    for what, base, target, kind, picture in [
        ("vlm, adapter of text and tower", vlm, "attention,linear_attention,mlp,vision", SEEING_CLASS, True),
        ("vlm, adapter of text, in the class of text", vlm, "attention,linear_attention,mlp", TEXT_CLASS, False),
        ("qwen3-vl, adapter of text and tower", qwen3_vl, "attention,mlp,vision", SEEING_CLASS, True),
        ("experts, adapter of all", moe, "attention,linear_attention,mlp,experts,router,lm_head", TEXT_CLASS, False),
        ("experts, adapter of up", moe, "experts.up_proj", TEXT_CLASS, False),
        ("experts, adapter of down in one layer", moe, "layers.1.mlp.experts.down_proj,q_proj", TEXT_CLASS, False),
        ("experts under a tower, adapter of all", moe_vlm, "attention,linear_attention,mlp,experts,router,vision", SEEING_CLASS, True),
        ("mtp, adapter of all", mtp, "attention,mlp,mtp", SEEING_CLASS, False),
    ]:
        adapter = ours.train(base, f"--target {target}" + (" --mtp loss" if base == mtp else ""), "pictures" if picture else "text")
        exported = ours.export(base, adapter, *(["--text-only"] if base == vlm and kind == TEXT_CLASS else []))
        before = ours.scores(base, picture=picture)
        compare(f"{what}, exported", "PEFT", ours.scores(base, adapter, picture), peft(base, exported, kind, picture), before)
        compare(f"{what}, exported", "cotangent", ours.scores(base, adapter, picture), ours.scores(base, exported, picture), before)
        changed = ours.work / f"{adapter.name}-changed"
        scores = peft(base, exported, kind, picture, changed)
        compare(f"{what}, exported, changed by PEFT", "cotangent", ours.scores(base, changed, picture), scores, before)


def check_all(ours: Ours) -> None:
    vlm, moe, mtp, qwen3_vl = [bases.fixture(ours.work / name, name) for name in ["vlm", "moe", "mtp", "qwen3-vl"]]
    moe_vlm = bases.experts_with_vision(ours.work / "moe-vlm")
    check_peft(ours, vlm, moe, moe_vlm, mtp, qwen3_vl)
    seen, read = ours.scores(vlm, picture=True), ours.scores(vlm)
    for name, options in QUANTIZED.items():
        converted = ours.convert(vlm, options)
        compare(f"vlm, {name}", "mlx-lm", ours.scores(converted), mlx_lm(converted), read)
        compare(f"vlm, {name}, a picture", "mlx-vlm", ours.scores(converted, picture=True),
                mlx_vlm(converted, picture=True), seen)
    for name in ["4 bits", "8 bits"]:
        converted = ours.convert(moe, QUANTIZED[name])
        compare(f"experts, {name}", "mlx-lm", ours.scores(converted), mlx_lm(converted), ours.scores(moe))
    # mlx-vlm has no adapters of routed experts.
    converted, before = ours.convert(moe_vlm, QUANTIZED["4 bits"]), ours.scores(moe_vlm, picture=True)
    compare("experts under a tower, 4 bits, a picture", "mlx-vlm", ours.scores(converted, picture=True),
            mlx_vlm(converted, picture=True), before)
    adapter = ours.train(moe_vlm, "--target attention,linear_attention,mlp,vision", "pictures")
    compare("experts under a tower, adapter of the others, a picture", "mlx-vlm", ours.scores(moe_vlm, adapter, picture=True),
            mlx_vlm(moe_vlm, adapter, picture=True), before)
    converted = ours.convert(mtp, QUANTIZED["4 bits"])
    assert (converted / "mtp.safetensors").exists()
    compare("mtp kept, 4 bits", "mlx-lm", ours.scores(converted), mlx_lm(converted), ours.scores(mtp))
    compare("mtp kept, 4 bits", "mlx-vlm", ours.scores(converted), mlx_vlm(converted), ours.scores(mtp))
    # 48 columns are a multiple of the groups of this mode alone.
    converted = ours.convert(qwen3_vl, QUANTIZED["nvfp4"])
    compare("qwen3-vl, nvfp4, a picture", "mlx-vlm", ours.scores(converted, picture=True),
            mlx_vlm(converted, picture=True), ours.scores(qwen3_vl, picture=True))

    for name, target in [("of the tower", "vision"), ("of text and tower", "attention,linear_attention,mlp,vision")]:
        adapter = ours.train(vlm, f"--target {target}", "pictures")
        compare(f"vlm, adapter {name}, a picture", "mlx-vlm", ours.scores(vlm, adapter, picture=True),
                mlx_vlm(vlm, adapter, picture=True), seen)
    converted = ours.convert(vlm, QUANTIZED["8 bits"])
    adapter = ours.train(converted)
    compare("vlm, adapter on 8 bits", "mlx-lm", ours.scores(converted, adapter), mlx_lm(converted, adapter), read)
    compare("vlm, adapter on 8 bits", "mlx-vlm", ours.scores(converted, adapter), mlx_vlm(converted, adapter), read)
    adapter = ours.train(moe, "--target attention,linear_attention,mlp,experts,router,lm_head")
    compare("experts, adapter of all", "mlx-lm", ours.scores(moe, adapter), mlx_lm(moe, adapter), ours.scores(moe))
    converted = ours.convert(moe, QUANTIZED["4 bits"])
    adapter = ours.train(converted, "--target experts")
    compare("experts, adapter on 4 bits", "mlx-lm", ours.scores(converted, adapter), mlx_lm(converted, adapter),
            ours.scores(converted))
    for name, options in [("beside", "--mtp loss --target attention,mlp,mtp"), ("that trained whole beside", "--mtp only")]:
        if "only" in options:
            options += f" --resume-adapter-file {adapter}"
        adapter = ours.train(mtp, options)
        assert (adapter / "adapters.mtp.safetensors").exists()
        for reader, theirs in [("mlx-lm", mlx_lm), ("mlx-vlm", mlx_vlm)]:
            compare(f"mtp, adapter, the head {name}", reader, ours.scores(mtp, adapter), theirs(mtp, adapter), ours.scores(mtp))
    adapter = ours.train(qwen3_vl, data="pictures")
    compare("qwen3-vl, adapter, a picture", "mlx-vlm", ours.scores(qwen3_vl, adapter, picture=True),
            mlx_vlm(qwen3_vl, adapter, picture=True), ours.scores(qwen3_vl, picture=True))


def main() -> None:
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        print("| written | read by | largest difference | effect |\n|---|---|---|---|")
        check_all(Ours(program, Path(work)))
        answers.check(program, Path(work))


if __name__ == "__main__":
    main()
