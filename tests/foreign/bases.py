"""Copies of this project's small checkpoints that the other programs can load: float32, so that MLX's `1 + w` is exact."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

TOP = Path(__file__).resolve().parent.parent.parent
DEMO = TOP / "demo/checkpoint"
FIXTURES = TOP / "tests/reference/fixtures"
VLM = FIXTURES / "vlm"


def write(folder: Path, config: dict, tensors: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tensors = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def text(folder: Path) -> Path:
    """The demo's model with its tokenizer."""
    config = json.loads((DEMO / "config.json").read_text())
    config["dtype"] = "float32"
    if "text_config" in config:
        config["text_config"]["dtype"] = "float32"
    write(folder, config, load_file(DEMO / "model.safetensors"))
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]:
        shutil.copy(DEMO / file, folder / file)
    return folder


def vision(folder: Path) -> Path:
    """The fixture with a vision tower."""
    config = json.loads((VLM / "config.json").read_text())
    config["dtype"] = config["text_config"]["dtype"] = "float32"
    return write(folder, config, load_file(VLM / "model.safetensors"))


def demo_with_vision(folder: Path) -> Path:
    """The demo's text model under the fixture's vision tower, whose last layer is drawn in the demo's width."""
    demo, config = json.loads((DEMO / "config.json").read_text()), json.loads((VLM / "config.json").read_text())
    inner = demo.get("text_config", demo)
    width = inner["hidden_size"]
    config["text_config"] = {**inner, "dtype": "float32"}
    config["vision_config"]["out_hidden_size"] = width
    config["tie_word_embeddings"], config["dtype"] = True, "float32"
    tensors = {name: tensor for name, tensor in load_file(VLM / "model.safetensors").items() if "visual" in name}
    for name in [name for name in tensors if "merger.linear_fc2" in name]:
        shape = [width, *tensors[name].shape[1:]]
        tensors[name] = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for name, tensor in load_file(DEMO / "model.safetensors").items():
        tensors[name.replace("model.", "model.language_model.", 1)] = tensor
    write(folder, config, tensors)
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]:
        shutil.copy(DEMO / file, folder / file)
    return folder


def fixture(folder: Path, name: str) -> Path:
    """A fixture with a tokenizer of one token a character, so that this project's program can train it."""
    config = json.loads((FIXTURES / name / "config.json").read_text())
    if "text_config" not in config:
        # The text model of a mixture of experts: mlx-lm knows only the class that may have a vision tower too.
        config = {"model_type": "qwen3_5_moe", "tie_word_embeddings": config["tie_word_embeddings"], "text_config": config}
    config["dtype"] = config["text_config"]["dtype"] = "float32"
    return with_tokenizer(write(folder, config, load_file(FIXTURES / name / "model.safetensors")))


def with_tokenizer(folder: Path) -> Path:
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
        shutil.copy(FIXTURES / "vlm-video" / file, folder / file)
    shutil.copy(VLM / "preprocessor_config.json", folder)
    return folder


def experts_with_vision(folder: Path) -> Path:
    """The fixture with experts under the vision tower of another fixture, which is of its width."""
    config, text = [json.loads((FIXTURES / name / "config.json").read_text()) for name in ["vlm", "moe"]]
    config |= {"model_type": "qwen3_5_moe", "text_config": text, "tie_word_embeddings": False, "dtype": "float32"}
    text["dtype"] = "float32"
    config["vision_config"]["model_type"] = "qwen3_5_moe"
    config["architectures"] = ["Qwen3_5MoeForConditionalGeneration"]
    tensors = {name: tensor for name, tensor in load_file(VLM / "model.safetensors").items() if "visual" in name}
    for name, tensor in load_file(FIXTURES / "moe/model.safetensors").items():
        tensors[name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name] = tensor
    return with_tokenizer(write(folder, config, tensors))
