"""Lets other programs write files with their own save functions, and records what they compute with them.

    pip install -r requirements.txt
    pip install --no-deps -r requirements-no-deps.txt
    python make.py            # writes the folders beside this script, and manifest.json

Each folder of an adapter also gets `logits.safetensors`: the scores of the token after `TOKENS`, computed by the program
that wrote the adapter, in float32.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import bases
import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_map_with_path
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
TOKENS = [5, 99, 200, 7, 100, 17, 3, 61]
RANK, ALPHA = 2, 6.0
MANIFEST = {}


def fresh(name: str) -> Path:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def record(name: str, package: str, wrote: str, base: str, logits=None) -> None:
    if logits is not None:
        save_file({"logits": np.array(logits, dtype=np.float32)}, HERE / name / "logits.safetensors")
    version = importlib.metadata.version(package)
    MANIFEST["files"][name] = {"program": f"{package} {version}", "written_by": wrote, "base": base}


def draw_second_factors(model) -> None:
    """Draws factors as after training: a second factor of zero would hide every mistake."""
    mx.random.seed(1)

    def draw(path, value):
        return mx.random.normal(value.shape) * 0.1 if path.rsplit(".", 1)[-1] in ("lora_b", "B") else value

    model.update(tree_map_with_path(draw, model.trainable_parameters()))
    mx.eval(model.parameters())


def last_logits(model):
    return np.array(model(mx.array([TOKENS]))[0, -1].astype(mx.float32))


def mlx_itself() -> None:
    folder = fresh("mlx")
    tensors = {"a": mx.arange(6).reshape(2, 3).astype(mx.float32), "b": mx.array([1.5, -2.0], dtype=mx.bfloat16)}
    mx.save_safetensors(str(folder / "without-metadata.safetensors"), tensors)
    mx.save_safetensors(str(folder / "with-metadata.safetensors"), tensors, {"format": "mlx"})
    record("mlx", "mlx", "mlx.core.save_safetensors", "none")


def mlx_lm_run(work: Path) -> None:
    """A whole run of `mlx_lm.lora`, on the CPU."""
    from mlx_lm import lora
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load

    folder = fresh("mlx-lm")
    config = work / "lora.yaml"
    config.write_text(f"lora_parameters: {{rank: {RANK}, dropout: 0.0, scale: {ALPHA / RANK}}}\n")
    sys.argv = ["mlx_lm.lora", "--train", "--model", str(work / "text"), "--data", str(bases.TOP / "demo/data")]
    sys.argv += ["--iters", "4", "--num-layers", "2", "--batch-size", "2", "--learning-rate", "1e-2"]
    sys.argv += ["--val-batches", "1", "--adapter-path", str(folder), "-c", str(config), "--save-every", "1000"]
    lora.main()
    # The configuration records the whole run, including folders of the machine it ran on.
    file = folder / "adapter_config.json"
    run = json.loads(file.read_text())
    run.update(model="text", data="data", adapter_path="adapters", config="lora.yaml")
    file.write_text(json.dumps(run, indent=4, sort_keys=True))
    for numbered in folder.glob("0*_adapters.safetensors"):
        numbered.unlink()
    model, _ = load(str(work / "text"))
    record("mlx-lm", "mlx-lm", "a run of mlx_lm.lora; folders taken out of adapter_config.json", "demo",
           last_logits(load_adapters(model, str(folder))))


def mlx_lm_model(work: Path) -> None:
    """A checkpoint in MLX's layout."""
    from mlx_lm.utils import load_model, save_config, save_model

    folder = fresh("mlx-lm-model")
    model, config = load_model(work / "vision")
    save_model(folder, model)
    config.pop("vision_config", None)
    save_config(config, folder / "config.json")
    record("mlx-lm-model", "mlx-lm", "mlx_lm.utils.save_model and save_config", "vlm", last_logits(model))


def mlx_vlm(work: Path) -> None:
    from mlx_vlm.trainer.core import save_adapter
    from mlx_vlm.trainer.peft import get_peft_model
    from mlx_vlm.utils import load_model

    folder = fresh("mlx-vlm")
    model = get_peft_model(load_model(work / "vision"), ["q_proj", "in_proj_qkv", "down_proj"], RANK, ALPHA, 0.0)
    draw_second_factors(model)
    save_adapter(model, folder / "adapters.safetensors")
    logits = model.language_model(mx.array([TOKENS])).logits[0, -1].astype(mx.float32)
    record("mlx-vlm", "mlx-vlm", "mlx_vlm.trainer.core.save_adapter after get_peft_model", "vlm", np.array(logits))


def peft(work: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    linears = ["q_proj", "o_proj", "in_proj_qkv", "in_proj_b", "out_proj", "up_proj", "down_proj"]
    for name, kind, base, options in [
        ("peft", AutoModelForCausalLM, "text", {}),
        ("peft-rslora", AutoModelForCausalLM, "text", {"use_rslora": True, "layers_to_transform": [3]}),
        ("peft-vision", AutoModelForImageTextToText, "vision", {}),
    ]:
        folder = fresh(name)
        torch.manual_seed(0)
        model = kind.from_pretrained(work / base, dtype=torch.float32)
        # The modules are named in full, so that the vision tower is left as it is.
        modules = [path for path, _ in model.named_modules() if path.rsplit(".", 1)[-1] in linears and "visual" not in path]
        targets = linears if "layers_to_transform" in options else modules
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, **options))
        for path, parameter in model.named_parameters():
            if "lora_B" in path:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder)
        (folder / "README.md").unlink()
        file = folder / "adapter_config.json"
        file.write_text(file.read_text().replace(str(work), "bases"))
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0, -1]
        record(name, "peft", "PeftModel.save_pretrained", "vlm" if base == "vision" else "demo", logits.numpy())


def peft_experts() -> None:
    """All experts of a layer by one adapter of their stacked parameters."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = fresh("peft-experts")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(HERE.parent / "reference/fixtures/moe", dtype=torch.float32)
    # Others multiply rows of several experts at once, in an order of their own.
    model.set_experts_implementation("eager")
    targets = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, **targets))
    for path, parameter in model.named_parameters():
        if "lora_B" in path:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    # Sets, whose order changes from run to run, and a folder of this machine.
    config.update(base_model_name_or_path="moe", target_parameters=sorted(config["target_parameters"]))
    file.write_text(json.dumps(config, indent=2, sort_keys=True))
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0, -1]
    record("peft-experts", "peft", "PeftModel.save_pretrained, with target_parameters", "moe", logits.numpy())


def unsloth(work: Path) -> None:
    """unsloth's trainer starts only on macOS; its save function runs here, on a model that mlx-lm loaded and adapted."""
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load
    # The package `unsloth`, which needs a GPU, would set this.
    os.environ["UNSLOTH_IS_PRESENT"] = "1"
    from unsloth_zoo.mlx.utils import save_lora_adapters

    parameters = {"rank": RANK, "scale": ALPHA / RANK, "dropout": 0.0}
    model, _ = load(str(work / "text"))
    model.freeze()
    keys = {"self_attn.q_proj", "linear_attn.in_proj_qkv", "mlp.down_proj"}
    linear_to_lora_layers(model, -1, parameters | {"keys": keys})
    draw_second_factors(model)
    folder = fresh("unsloth")
    # `MLXTrainer.save_model` calls it with these arguments.
    given = {"fine_tune_type": "lora", "peft_type": "LORA", "base_model_name_or_path": "text", "num_layers": 4}
    save_lora_adapters(model, str(folder), adapter_config=given | {"lora_parameters": parameters} | parameters)
    record("unsloth", "unsloth_zoo", "unsloth_zoo.mlx.utils.save_lora_adapters", "demo", last_logits(model))


def main() -> None:
    packages = ["mlx", "mlx-lm", "mlx-vlm", "peft", "transformers", "torch", "safetensors", "unsloth_zoo"]
    MANIFEST.update(
        made_with={"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages},
        tokens=TOKENS,
        files={},
    )
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        bases.text(work / "text")
        bases.vision(work / "vision")
        for part in [mlx_itself, lambda: mlx_lm_run(work), lambda: mlx_lm_model(work), lambda: mlx_vlm(work),
                     lambda: peft(work), peft_experts, lambda: unsloth(work)]:
            part()
    (HERE / "manifest.json").write_text(json.dumps(MANIFEST, indent=1) + "\n")


if __name__ == "__main__":
    main()
